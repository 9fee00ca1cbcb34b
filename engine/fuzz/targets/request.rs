//! Request headers and records of every op: what decodes, encodes to something that decodes the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::wire::{OpCode, Request, RequestHeader};

fuzz_target!(|body: &[u8]| {
    let Ok((header, record)) = RequestHeader::decode(body) else { return };
    // Most numbers are no op; the low bits choose one so that inputs are not wasted.
    let op =
        OpCode::from_i32(header.op).unwrap_or(OpCode::ALL[header.op as u32 as usize % OpCode::ALL.len()]);
    if let Ok(request) = Request::decode(op, record) {
        assert_eq!(request.op(), op);
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(Request::decode(op, &out).as_ref(), Ok(&request));
        match &request {
            Request::Create(create) => drop(create.acl.entries()),
            Request::SetAcl { acl, .. } => drop(acl.entries()),
            _ => {}
        }
    }
});
