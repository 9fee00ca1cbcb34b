//! Path validation: the fast pass against the rules.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::model::path;

fuzz_target!(|text: &str| {
    let units = text
        .encode_utf16()
        .all(|unit| !matches!(unit, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff));
    let components = text == "/" || text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    assert_eq!(path::validate(text).is_ok(), text.starts_with('/') && units && components);
    let _ = (path::validate_create_first(text), path::validate_delete(text), path::validate_exists(text));
    if let Some((parent, name)) = path::split(text) {
        assert!(!name.contains('/') && (parent == "/" || text.starts_with(parent)));
    }
});
