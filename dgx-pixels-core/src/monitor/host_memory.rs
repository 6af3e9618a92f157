//! The machine's memory, for GPUs that share it.

use std::fs;

/// All memory, and what can be had without swapping, in bytes.
pub(super) fn read() -> Option<(f64, f64)> {
    parse(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(meminfo: &str) -> Option<(f64, f64)> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024.0)
    };
    // `MemFree` leaves out the page cache, which is given up at once.
    Some((bytes("MemTotal")?, bytes("MemAvailable")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_available_are_read_in_bytes() {
        let text = "MemTotal:       125513324 kB\nMemFree:  812 kB\nMemAvailable:   98000000 kB\n";
        assert_eq!(parse(text), Some((125_513_324.0 * 1024.0, 98_000_000.0 * 1024.0)));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
        assert!(read().is_some_and(|(total, available)| available <= total));
    }
}
