//! Products of words in tiles (Intel AMX, instruction set reference 2023): 16 rows by 16 points by 64 coordinates at once.
//!
//! Tiles are multiplied by bytes. A word is `256 u + l` with a signed upper byte `u` and an unsigned lower byte `l`, so a
//! product of words is four of bytes, `65536 u u' + 256 (u l' + l u') + l l'`. Every sum wraps at 2^32; the whole is below
//! 2^31, hence exact, and the same integer as that of [`Vector::words`](super::simd::Vector::words) on other vectors. With
//! the four sums in four of the eight tiles and four more for what is multiplied, each tile that is loaded takes part in
//! two products.
//!
//! 16 rows are, for every 64 coordinates, a tile of upper bytes, row after row, and one of lower bytes. 16 points are the
//! same, but four coordinates of each point lie together: point after point, then the next four. Half a panel comes after
//! the other.
#![allow(unsafe_code)]

/// Rows, and points, of a tile.
pub(super) const SIDE: usize = 16;
/// Coordinates of a tile.
pub(super) const STEP: usize = 64;
/// Bytes of a tile.
const TILE: usize = SIDE * STEP;
/// Bytes of a step of rows or points: both of their tiles.
pub(super) const BYTES: usize = 2 * TILE;

/// Where the upper and the lower byte of a coordinate of a row are; those of 15 more coordinates of a step follow them.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nothing else has tiles"))]
#[inline(always)]
pub(super) fn row(coordinate: usize, row: usize) -> [usize; 2] {
    let upper = coordinate / STEP * BYTES + row * STEP + coordinate % STEP;
    [upper, upper + TILE]
}

/// Where the upper and the lower byte of a coordinate of a point are in a panel of so many steps.
pub(super) fn point(steps: usize, coordinate: usize, point: usize) -> [usize; 2] {
    let (step, of_step) = (point / SIDE * steps + coordinate / STEP, coordinate % STEP);
    let upper = step * BYTES + of_step / 4 * (4 * SIDE) + point % SIDE * 4 + of_step % 4;
    [upper, upper + TILE]
}

#[cfg(target_arch = "x86_64")]
pub(super) use amx::{Configured, Sums, available, products};

#[cfg(target_arch = "x86_64")]
mod amx {
    use super::{BYTES, SIDE, TILE};
    use std::arch::asm;
    use std::mem::MaybeUninit;

    /// Whether the processor has tiles of bytes. Only where it has AVX2, which is found in the same leaf.
    pub(super) fn exist() -> bool {
        // AMX-TILE and AMX-INT8.
        const FEATURES: u32 = 1 << 24 | 1 << 25;
        std::arch::x86_64::__cpuid_count(7, 0).edx & FEATURES == FEATURES
    }

    /// Whether there are tiles and the system lets this process use them, which it is asked once.
    pub(in super::super) fn available() -> bool {
        #[cfg(target_os = "linux")]
        {
            use std::sync::OnceLock;
            static AVAILABLE: OnceLock<bool> = OnceLock::new();
            *AVAILABLE.get_or_init(|| {
                // ARCH_REQ_XCOMP_PERM: room for tiles (8 KiB) when threads are switched; for all threads, and for those of
                // children. Refused by systems before Linux 5.16, which would not keep them.
                const PERMISSION: i64 = 0x1023;
                const TILE_DATA: i64 = 18;
                // SAFETY: takes two numbers and touches no memory of ours.
                exist() && unsafe { libc::syscall(libc::SYS_arch_prctl, PERMISSION, TILE_DATA) } == 0
            })
        }
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// What LDTILECFG reads: zeros are no tiles at all.
    #[derive(Clone, Copy, Default)]
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start: u8,
        reserved: [u8; 14],
        /// Bytes of a row of each tile, and rows of each. There are eight tiles, but room for 16.
        row: [u16; 16],
        rows: [u8; 16],
    }

    /// While it lives this thread has eight tiles of 16 rows of 64 bytes. It may be nested.
    pub(in super::super) struct Configured {
        before: Config,
        /// Belongs to the thread.
        _here: std::marker::PhantomData<*const ()>,
    }

    impl Configured {
        /// # Safety
        /// Only where tiles are [`available`].
        pub(in super::super) unsafe fn new() -> Self {
            let (mut before, mut tiles) = (Config::default(), Config { palette: 1, ..Config::default() });
            tiles.row[..8].fill((TILE / SIDE) as u16);
            tiles.rows[..8].fill(SIDE as u8);
            // SAFETY: the instructions exist; both are 64 bytes.
            unsafe {
                asm!("sttilecfg [{}]", in(reg) &raw mut before, options(nostack, preserves_flags));
                load(&tiles);
            }
            Configured { before, _here: std::marker::PhantomData }
        }
    }

    impl Drop for Configured {
        fn drop(&mut self) {
            // SAFETY: it was made where the instruction exists, and this is what was stored then.
            unsafe { load(&self.before) }
        }
    }

    /// # Safety
    /// Only where tiles are [`available`], of a valid configuration.
    unsafe fn load(config: &Config) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) config,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    /// Sums of the products of upper bytes, of upper with lower, of lower with upper, and of lower bytes: of every row with
    /// every point.
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    pub(in super::super) struct Sums(pub [[[i32; SIDE]; SIDE]; 4]);

    /// The sums of 16 rows with 16 points.
    ///
    /// # Safety
    /// While there is a [`Configured`] on this thread. `rows` and `points` are `steps > 0` times [`BYTES`]; `out` can be
    /// written.
    #[inline(always)]
    pub(in super::super) unsafe fn products(
        rows: *const u8,
        points: *const u8,
        steps: usize,
        out: *mut MaybeUninit<Sums>,
    ) {
        debug_assert!(steps > 0);
        // SAFETY: the caller's promise; the loop reads two tiles of both in each step, and four tiles are stored.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{rows} + {row}*1]",
                "tileloadd tmm6, [{points} + {row}*1]",
                "tileloadd tmm7, [{points} + {row}*1 + {tile}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{rows} + {row}*1 + {tile}]",
                "tdpbsud tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbuud tmm3, tmm5, tmm7",
                "add {rows}, {step}",
                "add {points}, {step}",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {row}*1], tmm0",
                "tilestored [{out} + {row}*1 + {tile}], tmm1",
                "tilestored [{out} + {row}*1 + 2*{tile}], tmm2",
                "tilestored [{out} + {row}*1 + 3*{tile}], tmm3",
                rows = inout(reg) rows => _,
                points = inout(reg) points => _,
                steps = inout(reg) steps => _,
                out = in(reg) out,
                row = in(reg) TILE / SIDE,
                tile = const TILE,
                step = const BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// The instructions of [`amx`] as their reference describes them, for machines that do not have them: each one is an illegal
/// instruction there, and what handles that signal does its work. Slow, but the very instructions that are shipped are what
/// is tested.
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub(super) mod emulation {
    use std::cell::RefCell;
    use std::sync::OnceLock;

    use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

    /// What a thread has: the configuration as it was loaded, and the tiles.
    struct State {
        config: [u8; 64],
        tiles: [[u8; 1024]; 8],
    }

    const NOTHING: State = State { config: [0; 64], tiles: [[0; 1024]; 8] };

    thread_local! {
        static STATE: RefCell<State> = const { RefCell::new(NOTHING) };
    }

    /// Whether this process has tiles; where the processor has none it has from now on. (One that has them, but no permission,
    /// would run some of the instructions itself.)
    pub(in super::super) fn available() -> bool {
        static INSTALLED: OnceLock<bool> = OnceLock::new();
        super::available() || !super::amx::exist() && *INSTALLED.get_or_init(install)
    }

    fn install() -> bool {
        // SAFETY: `handle` has the signature that SA_SIGINFO asks for; all else of the action is zeros.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()) == 0
        }
    }

    /// Steps over an instruction that it has carried out; all others end the process as they would without it, and so does
    /// what the reference forbids: a panic cannot leave this function.
    extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the system hands over the registers of the thread, which waits for this handler; an instruction is at most
        // 15 bytes, and code does not end with the last one.
        unsafe {
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let at = registers[libc::REG_RIP as usize] as *const u8;
            let code = std::slice::from_raw_parts(at, 15);
            let instruction = Decoder::with_ip(64, code, at as u64, DecoderOptions::NONE).decode();
            if STATE.with_borrow_mut(|state| state.run(&instruction, registers)) {
                registers[libc::REG_RIP as usize] += instruction.len() as i64;
            } else {
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }

    impl State {
        /// # Safety
        /// What the instruction reads and writes can be read and written.
        unsafe fn run(&mut self, of: &Instruction, registers: &[i64; 23]) -> bool {
            let value = |of| number(of).map_or(0, |i| registers[i]);
            let base = || value(of.memory_base()) + of.memory_displacement64() as i64;
            let offset = || value(of.memory_index()) * i64::from(of.memory_index_scale());
            let tile = |operand| of.op_register(operand) as usize - Register::TMM0 as usize;
            let only_base =
                || assert!(of.memory_index() == Register::None && of.segment_prefix() == Register::None);
            // SAFETY: the caller's promise, here and below.
            unsafe {
                match of.mnemonic() {
                    Mnemonic::Ldtilecfg => {
                        only_base();
                        let config = (base() as *const [u8; 64]).read();
                        assert!(
                            config[0] <= 1 && config[1..16].iter().all(|&x| x == 0),
                            "palette, start, reserved"
                        );
                        *self = State { config, ..NOTHING };
                        for i in 0..8 {
                            assert!(
                                self.rows(i) <= 16 && self.row(i) <= 64,
                                "a tile is 16 rows of 64 bytes at most"
                            );
                            assert_eq!(
                                config[0] == 0,
                                self.rows(i) == 0,
                                "tiles without a palette, or none with one"
                            );
                        }
                        assert!(
                            config[32..48].iter().chain(&config[56..]).all(|&x| x == 0),
                            "tiles that do not exist"
                        );
                    }
                    Mnemonic::Sttilecfg => {
                        only_base();
                        (base() as *mut [u8; 64]).write(self.config);
                    }
                    Mnemonic::Tilezero => self.tiles[self.existing(tile(0))].fill(0),
                    Mnemonic::Tileloadd => {
                        let i = self.existing(tile(0));
                        self.tiles[i].fill(0);
                        for r in 0..self.rows(i) {
                            let from = (base() + r as i64 * offset()) as *const u8;
                            let row = self.row(i);
                            from.copy_to(self.tiles[i][64 * r..].as_mut_ptr(), row);
                        }
                    }
                    Mnemonic::Tilestored => {
                        let i = self.existing(tile(1));
                        for r in 0..self.rows(i) {
                            let to = (base() + r as i64 * offset()) as *mut u8;
                            to.copy_from(self.tiles[i][64 * r..].as_ptr(), self.row(i));
                        }
                    }
                    Mnemonic::Tdpbssd => self.multiply(of, [true, true]),
                    Mnemonic::Tdpbsud => self.multiply(of, [true, false]),
                    Mnemonic::Tdpbusd => self.multiply(of, [false, true]),
                    Mnemonic::Tdpbuud => self.multiply(of, [false, false]),
                    _ => return false,
                }
            }
            true
        }

        /// `sums += a b` of bytes, four at a time; which of both sides are signed.
        fn multiply(&mut self, of: &Instruction, signed: [bool; 2]) {
            assert!((0..3).all(|i| of.op_kind(i) == OpKind::Register));
            let [to, a, b] =
                [0, 1, 2].map(|i| self.existing(of.op_register(i) as usize - Register::TMM0 as usize));
            assert!(to != a && to != b && a != b, "three tiles");
            let fits = self.rows(a) == self.rows(to)
                && self.row(b) == self.row(to)
                && self.row(a) == 4 * self.rows(b);
            assert!(fits, "tiles of sizes that cannot be multiplied");
            let byte = |tile: usize, at: usize, signed: bool| {
                let x = self.tiles[tile][at];
                if signed { i32::from(x as i8) } else { i32::from(x) }
            };
            let mut sums = self.tiles[to];
            for m in 0..self.rows(to) {
                for n in 0..self.row(to) / 4 {
                    let at = 64 * m + 4 * n;
                    let mut sum = i32::from_le_bytes(sums[at..at + 4].try_into().expect("four bytes"));
                    for k in 0..self.row(a) {
                        let x = byte(a, 64 * m + k, signed[0]);
                        let y = byte(b, 64 * (k / 4) + 4 * n + k % 4, signed[1]);
                        sum = sum.wrapping_add(x * y);
                    }
                    sums[at..at + 4].copy_from_slice(&sum.to_le_bytes());
                }
            }
            self.tiles[to] = sums;
        }

        fn existing(&self, tile: usize) -> usize {
            assert_eq!(self.config[0], 1, "tiles that were not configured");
            tile
        }

        fn row(&self, tile: usize) -> usize {
            usize::from(u16::from_le_bytes([self.config[16 + 2 * tile], self.config[17 + 2 * tile]]))
        }

        fn rows(&self, tile: usize) -> usize {
            usize::from(self.config[48 + tile])
        }
    }

    /// The place of a register in the context.
    fn number(register: Register) -> Option<usize> {
        let i = match register {
            Register::None => return None,
            Register::RAX => libc::REG_RAX,
            Register::RBX => libc::REG_RBX,
            Register::RCX => libc::REG_RCX,
            Register::RDX => libc::REG_RDX,
            Register::RSI => libc::REG_RSI,
            Register::RDI => libc::REG_RDI,
            Register::RBP => libc::REG_RBP,
            Register::RSP => libc::REG_RSP,
            Register::R8 => libc::REG_R8,
            Register::R9 => libc::REG_R9,
            Register::R10 => libc::REG_R10,
            Register::R11 => libc::REG_R11,
            Register::R12 => libc::REG_R12,
            Register::R13 => libc::REG_R13,
            Register::R14 => libc::REG_R14,
            Register::R15 => libc::REG_R15,
            other => panic!("an address in {other:?}"),
        };
        Some(i as usize)
    }
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use super::*;
    use crate::kit::rng::key;
    use std::mem::MaybeUninit;

    /// Words of any value: also what no scale would let through, for sums that wrap.
    fn words(count: usize, seed: u64) -> Vec<i16> {
        (0..count).map(|i| key(seed, &[i as u64]) as i16).collect()
    }

    /// The four sums of the module's doc, put together, by the slow rule.
    fn product(x: &[i16], y: &[i16]) -> i32 {
        x.iter().zip(y).fold(0i32, |sum, (&x, &y)| sum.wrapping_add(i32::from(x) * i32::from(y)))
    }

    #[test]
    fn four_products_of_bytes_are_one_of_words() {
        if !emulation::available() {
            return; // a processor that has tiles, and a system that refuses them
        }
        for (steps, seed) in [(1, 1), (2, 2), (7, 3)] {
            let p = steps * STEP;
            let (x, y) = (words(SIDE * p, seed), words(2 * SIDE * p, seed + 10));
            let (mut rows, mut points) = (vec![0; steps * BYTES], vec![0; 2 * steps * BYTES]);
            for t in 0..p {
                for r in 0..SIDE {
                    let [lower, upper] = x[r * p + t].to_le_bytes();
                    let [at_upper, at_lower] = row(t, r);
                    (rows[at_upper], rows[at_lower]) = (upper, lower);
                }
                for j in 0..2 * SIDE {
                    let [lower, upper] = y[j * p + t].to_le_bytes();
                    let [at_upper, at_lower] = point(steps, t, j);
                    (points[at_upper], points[at_lower]) = (upper, lower);
                }
            }
            for half in 0..2 {
                let mut sums = MaybeUninit::uninit();
                // SAFETY: there are tiles, if only emulated; there are so many steps of bytes.
                let Sums([uu, ul, lu, ll]) = unsafe {
                    let _configured = Configured::new();
                    // What is nested leaves the tiles as they were configured.
                    drop(Configured::new());
                    products(rows.as_ptr(), points[half * steps * BYTES..].as_ptr(), steps, &mut sums);
                    sums.assume_init()
                };
                for r in 0..SIDE {
                    for j in 0..SIDE {
                        let mixed = ul[r][j].wrapping_add(lu[r][j]);
                        let upper = (uu[r][j] << 8).wrapping_add(mixed);
                        let all = (upper << 8).wrapping_add(ll[r][j]);
                        let y = &y[(half * SIDE + j) * p..][..p];
                        assert_eq!(all, product(&x[r * p..][..p], y), "{steps} steps, row {r}, point {j}");
                    }
                }
            }
        }
    }
}
