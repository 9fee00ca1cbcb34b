//! ACL vectors: as stored, and as a client sends them through fix-up and checks.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::model::acl::{Networks, fix_up, masked, permits};
use ostler_engine::model::{Identity, Schemes};
use ostler_engine::wire::request::AclField;
use ostler_engine::wire::{AclBytes, Reader};

fuzz_target!(|bytes: &[u8]| {
    let schemes = Schemes { sasl: true, x509: true, ..Schemes::default() };
    let ids =
        [Identity::new("ip", "0:0:0:0:0:0:0:1"), Identity::new("digest", "a:b"), Identity::new("sasl", "a")];
    if let Ok(stored) = AclBytes::read(&mut Reader::new(bytes)) {
        assert_eq!(AclBytes::from_canonical(stored.bytes()).as_ref(), Some(&stored));
        let acl = stored.decode();
        let parsed = permits(&acl, &Networks::of(&acl), 1, &ids, &schemes);
        assert_eq!(parsed, permits(&acl, &Networks::default(), 1, &ids, &schemes));
        masked(&acl);
    }
    if let Ok(sent) = AclField::read(&mut Reader::new(bytes)) {
        let entries = sent.entries();
        if let Ok(fixed) = fix_up(entries.as_deref(), &ids, &schemes, bytes.len() * 4) {
            let stored = AclBytes::encode(&fixed);
            assert!(stored.bytes().len() <= bytes.len() * 4);
            assert_eq!(stored.decode(), fixed);
        }
    }
});
