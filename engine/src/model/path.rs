//! Znode paths: validation as each operation asks for it, and taking a path apart.
//! Not here: whether a znode exists. Reads validate nothing at all.

use super::ErrorCode;

/// Paths that cannot be deleted. Otherwise these znodes are ordinary.
pub const SPECIAL: [&str; 4] = ["/", "/zookeeper", QUOTA, CONFIG];
/// Above the definitions of quotas.
pub const QUOTA: &str = "/zookeeper/quota";
/// Membership of an ensemble; empty on a standalone server.
pub const CONFIG: &str = "/zookeeper/config";

/// Parent path and last component of an absolute path. The parent of `/a` is `/`; `None` when there is no `/`.
pub fn split(path: &str) -> Option<(&str, &str)> {
    Some(split_at(path, path.rfind('/')?))
}

/// The same where it is known that the last `/` stands there.
pub fn split_at(path: &str, slash: usize) -> (&str, &str) {
    (if slash == 0 { "/" } else { &path[..slash] }, &path[slash + 1..])
}

/// Full validation: setData, setACL, check, and create once the sequential suffix is there. Otherwise -8.
#[inline]
pub fn validate(path: &str) -> Result<(), ErrorCode> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(ErrorCode::BadArguments);
    }
    if bytes.len() == 1 {
        return Ok(());
    }
    // One pass without branches over what nearly every path is: printable ASCII. What it finds odd is looked at again.
    let mut odd = bytes.last() == Some(&b'/');
    for &byte in bytes {
        odd |= !(0x20..0x7f).contains(&byte);
    }
    for pair in bytes.windows(2) {
        odd |= (pair[0] == b'/') & ((pair[1] == b'/') | (pair[1] == b'.'));
    }
    if odd { validate_odd(path) } else { Ok(()) }
}

#[cold]
fn validate_odd(path: &str) -> Result<(), ErrorCode> {
    let components_fine = path.split('/').skip(1).all(|component| !matches!(component, "" | "." | ".."));
    let units_fine = !path.chars().any(is_forbidden);
    if components_fine && units_fine { Ok(()) } else { Err(ErrorCode::BadArguments) }
}

/// Forbidden UTF-16 units: control characters, surrogates (so everything beyond the first plane), the private use
/// area, and the specials at the end of the first plane, U+FFFD among them.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// What create checks before it looks for the parent: so `foo/bar` is -101, not -8.
pub fn validate_create_first(path: &str) -> Result<(), ErrorCode> {
    if path.contains('/') { validate_exists(path) } else { Err(ErrorCode::BadArguments) }
}

/// What delete and deleteContainer check: odd paths are just not there.
pub fn validate_delete(path: &str) -> Result<(), ErrorCode> {
    if SPECIAL.contains(&path) { Err(ErrorCode::BadArguments) } else { validate_create_first(path) }
}

/// What exists checks.
pub fn validate_exists(path: &str) -> Result<(), ErrorCode> {
    if path.contains('\0') { Err(ErrorCode::BadArguments) } else { Ok(()) }
}

/// A sequential name: the parent's stored cversion behind the path, ten digits or more, a sign counting as one.
pub fn sequential(path: &str, cversion: i32) -> String {
    format!("{path}{cversion:010}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(path: &str, fine: bool) {
        assert_eq!(validate(path).is_ok(), fine, "{path:?}");
    }

    #[test]
    fn full_validation() {
        for fine in [
            "/",
            "/a",
            "/a/b",
            "/a b",
            "/.a",
            "/a.",
            "/...",
            "/a/..b",
            "/é/日本",
            "/a\u{f900}",
            "/\u{a0}",
            "/~",
        ] {
            check(fine, true);
        }
        for bad in
            ["", "a", "a/b", "/a/", "//", "/a//b", "/.", "/..", "/a/.", "/a/..", "/./a", "/../a", "//a"]
        {
            check(bad, false);
        }
    }

    #[test]
    fn forbidden_units() {
        for bad in [
            '\0',
            '\u{1}',
            '\u{1f}',
            '\u{7f}',
            '\u{9f}',
            '\u{e000}',
            '\u{f8ff}',
            '\u{fff0}',
            '\u{fffd}',
            '\u{ffff}',
            '\u{10000}',
            '\u{1f600}',
            '\u{10ffff}',
        ] {
            check(&format!("/a{bad}b"), false);
        }
        for fine in [' ', '\u{a0}', '\u{d7ff}', '\u{f900}', '\u{ffef}'] {
            check(&format!("/a{fine}b"), true);
        }
    }

    #[test]
    fn weak_validations() {
        let weak = |path: &str| {
            [validate_create_first(path), validate_delete(path), validate_exists(path)]
                .map(|result| result.is_ok())
        };
        assert_eq!(weak("foo"), [false, false, true]);
        assert_eq!(weak("foo/bar"), [true, true, true]);
        assert_eq!(weak("/a\0"), [false, false, false]);
        assert_eq!(weak("/zookeeper/config"), [true, false, true]);
        assert_eq!(weak("/zookeeper/quota/a"), [true, true, true]);
        assert_eq!(weak("/"), [true, false, true]);
    }

    #[test]
    fn sequential_names() {
        assert_eq!(sequential("/a/", 0), "/a/0000000000");
        assert_eq!(sequential("/a/n-", i32::MAX), "/a/n-2147483647");
        assert_eq!(sequential("/n", -1), "/n-000000001");
    }

    /// The rules once more, slowly: by UTF-16 units and components.
    fn reference(path: &str) -> bool {
        let units_fine = path
            .encode_utf16()
            .all(|unit| !matches!(unit, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff));
        let components_fine = path == "/"
            || path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        path.starts_with('/') && units_fine && components_fine
    }

    proptest! {
        #[test]
        fn the_fast_pass_agrees_with_the_rules(path in "[/.a\u{1}\u{7f}\u{fffd}é\u{1f600}]{0,12}") {
            prop_assert_eq!(validate(&path).is_ok(), reference(&path));
        }

        #[test]
        fn and_on_any_text(path in "/\\PC{0,30}") {
            prop_assert_eq!(validate(&path).is_ok(), reference(&path));
        }
    }
}
