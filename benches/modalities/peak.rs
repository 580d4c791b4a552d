//! The memory that a piece of work takes at most (Linux; elsewhere not a number).

/// A piece of work that has begun.
pub struct Peak {
    reset: bool,
}

impl Peak {
    /// Sets the kernel's high-water mark of the process back to what it holds now.
    pub fn start() -> Peak {
        Peak { reset: std::fs::write("/proc/self/clear_refs", "5").is_ok() }
    }

    /// The most the process held since, in MiB, what it held before included: a difference would miss memory that the
    /// allocator had kept from earlier work.
    pub fn mebibytes(self) -> f64 {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kibibytes.filter(|_| self.reset).map_or(f64::NAN, |k| k / 1024.0)
    }
}
