//! The handshake's two records. They have no header.

use super::jute::{JutePut, Malformed, Reader};
use crate::model::SessionId;
use ostler_replication::Zxid;

/// Length of a session's password.
pub const PASSWORD_BYTES: usize = 16;

/// What a client asks for when it connects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectRequest {
    pub protocol: i32,
    /// Highest zxid the client has seen; a server behind it must not serve this client.
    pub last_zxid_seen: Zxid,
    pub timeout_ms: i32,
    /// `SessionId::NONE` asks for a new session.
    pub session: SessionId,
    /// What was sent if it has the length of a password. Anything else (null and empty are usual for a new session)
    /// matches no session, so nothing more of it is kept.
    pub password: Option<[u8; PASSWORD_BYTES]>,
    /// `None`: the byte was absent, an old client, and the response must be without it too.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Of a frame's body; bytes after the record are ignored.
    pub fn decode(body: &[u8]) -> Result<ConnectRequest, Malformed> {
        let mut reader = Reader::new(body);
        Ok(ConnectRequest {
            protocol: reader.i32()?,
            last_zxid_seen: reader.zxid()?,
            timeout_ms: reader.i32()?,
            session: SessionId(reader.i64()?),
            password: reader.buffer()?.and_then(|bytes| bytes.try_into().ok()),
            read_only: reader.bool().ok(),
        })
    }

    /// As a client sends it: complete frame with its length word. For tests, tools and forwarding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        super::frame::put_frame(out, |out| {
            out.put_i32(self.protocol);
            out.put_zxid(self.last_zxid_seen);
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session.0);
            out.put_buffer(Some(self.password.as_ref().map_or(&[], |password| password.as_slice())));
            if let Some(read_only) = self.read_only {
                out.put_bool(read_only);
            }
        });
    }
}

/// The answer. `ConnectResponse::refused` is what a client with an unknown session or wrong password gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectResponse {
    pub timeout_ms: i32,
    pub session: SessionId,
    pub password: [u8; PASSWORD_BYTES],
    /// `Some` exactly if the request had it.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// Timeout 0 tells Java clients, session 0 the C client, that the session is gone.
    pub fn refused(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse { timeout_ms: 0, session: SessionId::NONE, password: [0; PASSWORD_BYTES], read_only }
    }

    /// Appends the complete frame: 4 + 37 bytes, or 4 + 36 for an old client.
    pub fn encode(&self, out: &mut Vec<u8>) {
        super::frame::put_frame(out, |out| {
            out.put_i32(0);
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session.0);
            out.put_buffer(Some(&self.password));
            if let Some(read_only) = self.read_only {
                out.put_bool(read_only);
            }
        });
    }

    /// Of a frame's body. For tests and tools.
    pub fn decode(body: &[u8]) -> Result<ConnectResponse, Malformed> {
        let mut reader = Reader::new(body);
        reader.i32()?;
        Ok(ConnectResponse {
            timeout_ms: reader.i32()?,
            session: SessionId(reader.i64()?),
            password: reader.buffer()?.and_then(|bytes| bytes.try_into().ok()).ok_or(Malformed::Truncated)?,
            read_only: reader.bool().ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(read_only: Option<bool>) -> ConnectRequest {
        ConnectRequest {
            protocol: 0,
            last_zxid_seen: Zxid(5),
            timeout_ms: 30_000,
            session: SessionId(0x100_0016_0993_0000),
            password: Some([9; 16]),
            read_only,
        }
    }

    #[test]
    fn requests_with_and_without_the_last_byte() {
        for (read_only, bytes) in [(None, 44), (Some(false), 45), (Some(true), 45)] {
            let mut out = Vec::new();
            request(read_only).encode(&mut out);
            assert_eq!(out.len(), 4 + bytes);
            assert_eq!(ConnectRequest::decode(&out[4..]), Ok(request(read_only)));
            for cut in 0..44 {
                assert_eq!(ConnectRequest::decode(&out[4..4 + cut]), Err(Malformed::Truncated));
            }
        }
    }

    #[test]
    fn passwords_of_any_length_are_read() {
        let with = |password: Option<&[u8]>| {
            let mut body = vec![0; 24];
            body.put_buffer(password);
            ConnectRequest::decode(&body).map(|request| request.password)
        };
        assert_eq!(with(None), Ok(None));
        assert_eq!(with(Some(b"")), Ok(None));
        assert_eq!(with(Some(&[1; 15])), Ok(None));
        assert_eq!(with(Some(&[1; 16])), Ok(Some([1; 16])));
    }

    #[test]
    fn responses_are_36_or_37_bytes() {
        for (read_only, bytes) in [(None, 36), (Some(true), 37)] {
            let response = ConnectResponse { timeout_ms: 4000, ..ConnectResponse::refused(read_only) };
            let mut out = Vec::new();
            response.encode(&mut out);
            assert_eq!(out.len(), 4 + bytes);
            assert_eq!(ConnectResponse::decode(&out[4..]), Ok(response));
        }
        let mut out = Vec::new();
        ConnectResponse::refused(Some(false)).encode(&mut out);
        let mut expected = vec![0; 41];
        (expected[3], expected[23]) = (37, 16);
        assert_eq!(out, expected);
    }
}
