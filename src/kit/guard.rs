//! Panics of libraries, made errors.
//!
//! A library that panics at damaged input has found damage: to the user that is one more damaged file, and no message of
//! ours. [`guarded`] catches the panic. That it is not printed either is up to the program, which owns the panic hook: its
//! `main` calls [`quiet`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns, or the panic's message. `work` must stay on this thread for its panics to go unprinted.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or("no reason is known".into(), |text| (*text).into()),
    })
}

/// From now on, panics that [`guarded`] catches are not printed. For the `main` of a program: a library must leave
/// its host's hook alone.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                loud(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_their_message() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| panic!("page {}", 3)), Err::<(), _>("page 3".into()));
        assert_eq!(guarded(|| guarded(|| panic!("inner"))), Ok(Err::<(), _>("inner".into())));
        assert!(!GUARDED.get());
    }
}
