//! Who we say we are: tools parse this text, so it has the shape of Apache's.

/// The release of Apache ZooKeeper whose protocols and formats this server speaks.
pub const COMPATIBLE: &str = "3.9.5";

/// `<release>-<40 hex digits>, built on <date>`: what `srvr`, `mntr`, `envi` and the shell print. The digits are ours.
pub const FULL: &str = "3.9.5-05713e0000000000000000000000000000000001, built on 2026-02-11 20:18 UTC";

#[cfg(test)]
mod tests {
    use super::*;

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
