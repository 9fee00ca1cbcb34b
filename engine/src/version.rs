//! Who we say we are: tools parse this text, so it has the shape of Apache's.

/// The release of Apache ZooKeeper whose protocols and formats this server speaks.
pub const COMPATIBLE: &str = "3.9.5";

/// `<release>-<40 hex digits>, built on <date>`: what `srvr`, `mntr`, `envi` and the shell print. The digits are ours.
pub const FULL: &str = "3.9.5-05713e0000000000000000000000000000000001, built on 2026-02-11 20:18 UTC";

/// Our own version: behind what Apache's server prints, where readers of its words do not look.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The same as a number, for readers that take nothing else: 1002003 is 1.2.3.
pub fn own_number() -> u64 {
    let parts = OWN.split(['.', '-', '+']).map_while(|part| part.parse::<u64>().ok());
    parts.chain([0, 0, 0]).take(3).fold(0, |number, part| number * 1000 + part.min(999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_version_is_a_number() {
        let (major, rest) = OWN.split_once('.').unwrap();
        assert_eq!(own_number() / 1_000_000, major.parse::<u64>().unwrap());
        assert_eq!(own_number() / 1000 % 1000, rest.split('.').next().unwrap().parse::<u64>().unwrap());
    }

    #[test]
    fn shape_is_what_monitoring_tools_parse() {
        let (release, rest) = FULL.split_once('-').unwrap();
        let (digits, date) = rest.split_once(", built on ").unwrap();
        assert_eq!(release, COMPATIBLE);
        assert_eq!(digits.len(), 40);
        assert!(digits.chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(date, "2026-02-11 20:18 UTC");
    }
}
