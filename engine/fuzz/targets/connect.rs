//! Connect requests and responses: what decodes, encodes to something that decodes the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::wire::{ConnectRequest, ConnectResponse};

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if let Ok(request) = ConnectRequest::decode(bytes) {
        request.encode(&mut out);
        assert_eq!(ConnectRequest::decode(&out[4..]), Ok(request));
    }
    out.clear();
    if let Ok(response) = ConnectResponse::decode(bytes) {
        response.encode(&mut out);
        assert_eq!(ConnectResponse::decode(&out[4..]), Ok(response));
    }
});
