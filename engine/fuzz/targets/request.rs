//! Request headers and records of every op: what decodes, encodes to something that decodes the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::wire::request::MultiOp;
use ostler_engine::wire::{OpCode, Request, RequestHeader};

fuzz_target!(|body: &[u8]| {
    let Ok((header, record)) = RequestHeader::decode(body) else { return };
    // Most numbers are no op; the low bits choose one so that inputs are not wasted.
    let op =
        OpCode::from_i32(header.op).unwrap_or(OpCode::ALL[header.op as u32 as usize % OpCode::ALL.len()]);
    if let Ok(request) = Request::decode(op, record) {
        assert_eq!(request.op(), op);
        // A multi's createTTL without a TTL flag is read as a create, which may then not have a null ACL.
        let changed = matches!(&request, Request::Multi(ops) if ops.iter().any(
            |op| matches!(op, MultiOp::Create(create) if create.acl.is_null()),
        ));
        let mut out = Vec::new();
        request.encode(&mut out);
        assert!(changed || Request::decode(op, &out).as_ref() == Ok(&request), "{request:?}");
        match &request {
            Request::Create(create) => drop(create.acl.entries()),
            Request::SetAcl { acl, .. } => drop(acl.entries()),
            _ => {}
        }
    }
});
