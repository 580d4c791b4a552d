//! The memory that a piece of work takes at most (Linux; elsewhere not a number).

/// What the process holds now and the most it held since, in MiB.
pub struct Peak {
    before: f64,
}

impl Peak {
    /// Sets the kernel's high-water mark back to what is held now.
    pub fn start() -> Peak {
        let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        Peak { before: if reset { status("VmRSS:") } else { f64::NAN } }
    }

    /// How much more than at the start was held at the worst moment.
    pub fn mebibytes(self) -> f64 {
        status("VmHWM:") - self.before
    }
}

fn status(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kibibytes.map_or(f64::NAN, |k| k / 1024.0)
}
