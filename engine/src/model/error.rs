//! Error codes of the protocol: values for the wire, never our own errors.

/// A code that a server may send (ZooKeeper 3.9, KeeperException). Never invent others: Java clients throw on them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum ErrorCode {
    Ok = 0,
    RuntimeInconsistency = -2,
    MarshallingError = -5,
    Unimplemented = -6,
    BadArguments = -8,
    NewConfigNoQuorum = -13,
    ReconfigInProgress = -14,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NotReadOnly = -119,
    EphemeralOnLocalSession = -120,
    NoWatcher = -121,
    ReconfigDisabled = -123,
    SessionClosedRequireAuth = -124,
    QuotaExceeded = -125,
    ThrottledOp = -127,
}

impl ErrorCode {
    pub const fn to_wire(self) -> i32 {
        self as i32
    }

    /// `None` for codes that no server sends.
    pub const fn from_wire(raw: i32) -> Option<ErrorCode> {
        Some(match raw {
            0 => ErrorCode::Ok,
            -2 => ErrorCode::RuntimeInconsistency,
            -5 => ErrorCode::MarshallingError,
            -6 => ErrorCode::Unimplemented,
            -8 => ErrorCode::BadArguments,
            -13 => ErrorCode::NewConfigNoQuorum,
            -14 => ErrorCode::ReconfigInProgress,
            -101 => ErrorCode::NoNode,
            -102 => ErrorCode::NoAuth,
            -103 => ErrorCode::BadVersion,
            -108 => ErrorCode::NoChildrenForEphemerals,
            -110 => ErrorCode::NodeExists,
            -111 => ErrorCode::NotEmpty,
            -112 => ErrorCode::SessionExpired,
            -114 => ErrorCode::InvalidAcl,
            -115 => ErrorCode::AuthFailed,
            -118 => ErrorCode::SessionMoved,
            -119 => ErrorCode::NotReadOnly,
            -120 => ErrorCode::EphemeralOnLocalSession,
            -121 => ErrorCode::NoWatcher,
            -123 => ErrorCode::ReconfigDisabled,
            -124 => ErrorCode::SessionClosedRequireAuth,
            -125 => ErrorCode::QuotaExceeded,
            -127 => ErrorCode::ThrottledOp,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_both_ways() {
        let known: Vec<ErrorCode> = (-200..=10).filter_map(ErrorCode::from_wire).collect();
        assert!(known.iter().all(|code| ErrorCode::from_wire(code.to_wire()) == Some(*code)));
        assert_eq!(known.len(), 24);
    }
}
