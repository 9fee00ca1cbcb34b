//! Texts of quota znodes: never a panic, and what we write we read back.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::model::quota::{QuotaText, quota_node};

fuzz_target!(|text: &[u8]| {
    for mut quota in [QuotaText::parse_limits(text), QuotaText::parse_usage(text)] {
        let again = quota.to_string();
        let parsed = QuotaText::parse_limits(again.as_bytes());
        assert_eq!((parsed.count, parsed.bytes), (quota.count, quota.bytes));
        quota.charge(i64::MAX, i64::MIN);
        quota.forbids(&parsed, 1, i64::MIN);
    }
    quota_node(&String::from_utf8_lossy(text));
});
