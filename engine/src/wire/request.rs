//! Requests as clients send them: decoding in place, borrowing from the frame.
//! Not here: what is answered, and whether a request is allowed; encoding
//! serves tests, tools and forwarding; the lists of multi and multiRead are in `multi`.

use super::frame::put_frame;
use super::jute::{JutePut, Malformed, Reader};
use super::multi;
pub use super::multi::{MultiOp, MultiReadOp};
pub use super::op::OpCode;
use super::txn::AclBytes;
use crate::model::Xid;
use crate::model::acl::AclEntry;
use crate::model::owner::TTL_MILLIS_MAX;
use ostler_replication::Zxid;
use std::borrow::Cow;

/// Opens every request but the connect request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    pub xid: Xid,
    /// Raw: a number that is no op has to be answered, too.
    pub op: i32,
}

impl RequestHeader {
    pub const BYTES: usize = 8;

    /// Splits a frame's body. `Truncated` closes the connection without a reply.
    #[inline]
    pub fn decode(body: &[u8]) -> Result<(RequestHeader, &[u8]), Malformed> {
        let (word, record) = body.split_first_chunk::<8>().ok_or(Malformed::Truncated)?;
        let [x0, x1, x2, x3, o0, o1, o2, o3] = *word;
        let header = RequestHeader {
            xid: Xid(i32::from_be_bytes([x0, x1, x2, x3])),
            op: i32::from_be_bytes([o0, o1, o2, o3]),
        };
        Ok((header, record))
    }
}

/// A client's request. Paths are as sent, unvalidated; null paths do not get here (`Malformed::Null`).
#[derive(Clone, PartialEq, Debug)]
pub enum Request<'a> {
    Create(CreateRequest<'a>),
    Delete {
        path: Cow<'a, str>,
        version: i32,
    },
    DeleteContainer {
        path: Cow<'a, str>,
    },
    SetData {
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    SetAcl {
        path: Cow<'a, str>,
        acl: AclField<'a>,
        version: i32,
    },
    Multi(Vec<MultiOp<'a>>),
    Reconfig(ReconfigRequest<'a>),
    CloseSession,
    Exists {
        path: Cow<'a, str>,
        watch: bool,
    },
    GetData {
        path: Cow<'a, str>,
        watch: bool,
    },
    GetAcl {
        path: Cow<'a, str>,
    },
    GetChildren {
        path: Cow<'a, str>,
        watch: bool,
    },
    GetChildren2 {
        path: Cow<'a, str>,
        watch: bool,
    },
    GetAllChildrenNumber {
        path: Cow<'a, str>,
    },
    MultiRead(Vec<MultiReadOp<'a>>),
    /// Null means all, like the empty string.
    GetEphemerals {
        prefix: Option<Cow<'a, str>>,
    },
    /// Echoed as it came, null as null.
    Sync {
        path: Option<Cow<'a, str>>,
    },
    Ping,
    WhoAmI,
    Auth {
        scheme: Option<Cow<'a, str>>,
        auth: Option<&'a [u8]>,
    },
    Sasl {
        token: Option<&'a [u8]>,
    },
    /// Both setWatches and setWatches2; the former leaves the last two lists empty.
    SetWatches(SetWatches<'a>),
    /// Mode 0 is persistent, 1 persistent-recursive; any other number is the worker's to refuse.
    AddWatch {
        path: Cow<'a, str>,
        mode: i32,
    },
    /// Watcher types: 1 children, 2 data, 3 any, 4 persistent, 5 persistent-recursive.
    CheckWatches {
        path: Cow<'a, str>,
        kind: i32,
    },
    RemoveWatches {
        path: Cow<'a, str>,
        kind: i32,
    },
}

/// create, create2, createContainer and createTTL.
#[derive(Clone, PartialEq, Debug)]
pub struct CreateRequest<'a> {
    /// Decides the shape of the reply, and whether the znode is a container (op 19, whatever the flags say).
    pub op: OpCode,
    pub path: Cow<'a, str>,
    pub data: Option<&'a [u8]>,
    pub acl: AclField<'a>,
    /// CreateMode, unchecked.
    pub flags: i32,
    /// Milliseconds; -1 for every op but createTTL.
    pub ttl: i64,
}

impl CreateRequest<'_> {
    /// Whether the path is completed by a sequence number.
    pub fn is_sequential(&self) -> bool {
        matches!(self.flags, 2 | 3 | 6)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct ReconfigRequest<'a> {
    pub joining: Option<Cow<'a, str>>,
    pub leaving: Option<Cow<'a, str>>,
    pub members: Option<Cow<'a, str>>,
    /// -1 is unconditional.
    pub config_id: i64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct SetWatches<'a> {
    /// It came as setWatches2.
    pub two: bool,
    pub relative_zxid: Zxid,
    pub data: Vec<Cow<'a, str>>,
    pub exist: Vec<Cow<'a, str>>,
    pub child: Vec<Cow<'a, str>>,
    pub persistent: Vec<Cow<'a, str>>,
    pub recursive: Vec<Cow<'a, str>>,
}

/// The ACL of a create or setACL as sent: whole, but neither checked nor canonical.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclField<'a>(&'a [u8]);

impl<'a> AclField<'a> {
    /// Takes a vector of ACL entries off `reader`.
    pub fn read(reader: &mut Reader<'a>) -> Result<AclField<'a>, Malformed> {
        let whole = reader.rest();
        if whole.starts_with(AclBytes::OPEN_BYTES) {
            return reader.take(AclBytes::OPEN_BYTES.len()).map(AclField);
        }
        let start = reader.consumed();
        for _ in 0..reader.count()?.unwrap_or(0) {
            reader.i32()?;
            reader.buffer()?;
            reader.buffer()?;
        }
        Ok(AclField(whole.get(..reader.consumed() - start).unwrap_or_default()))
    }

    /// As a client would send this ACL.
    pub fn of(acl: &'a AclBytes<'_>) -> AclField<'a> {
        AclField(acl.bytes())
    }

    /// world:anyone with all permissions, by its bytes: valid as it stands, needs no fix-up.
    pub fn is_open(&self) -> bool {
        self.0 == AclBytes::OPEN_BYTES
    }

    pub fn is_null(&self) -> bool {
        self.0 == (-1i32).to_be_bytes()
    }

    /// `None` is a null vector.
    pub fn entries(&self) -> Option<Vec<AclEntry<'a>>> {
        // `read` has been over these bytes with the same steps, so this cannot fail.
        Reader::new(self.0).vector(|reader| reader.acl_entry()).unwrap_or_default()
    }
}

impl<'a> Request<'a> {
    /// Decodes the record behind the header; bytes after it are ignored. Ops that are no requests are `UnknownType`.
    #[inline]
    pub fn decode(op: OpCode, record: &'a [u8]) -> Result<Request<'a>, Malformed> {
        let mut reader = Reader::new(record);
        let r = &mut reader;
        Ok(match op {
            OpCode::GetData => Request::GetData { path: r.text()?, watch: r.bool()? },
            OpCode::Exists => Request::Exists { path: r.text()?, watch: r.bool()? },
            OpCode::GetChildren => Request::GetChildren { path: r.text()?, watch: r.bool()? },
            OpCode::GetChildren2 => Request::GetChildren2 { path: r.text()?, watch: r.bool()? },
            OpCode::Ping => Request::Ping,
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Request::Create(CreateRecord::read(op, r)?.request()?)
            }
            OpCode::SetData => {
                // Apache checks the paths of setData and setACL whole: there, null is just a bad path like the empty one.
                let (path, data, version) = (r.string()?.unwrap_or_default(), r.buffer()?, r.i32()?);
                Request::SetData { path, data, version }
            }
            OpCode::Delete => {
                let (path, version) = (r.string()?, r.i32()?);
                Request::Delete { path: path.ok_or(Malformed::Null)?, version }
            }
            OpCode::DeleteContainer => Request::DeleteContainer { path: r.text()? },
            OpCode::SetAcl => {
                let (path, acl, version) = (r.string()?.unwrap_or_default(), AclField::read(r)?, r.i32()?);
                Request::SetAcl { path, acl, version }
            }
            OpCode::Multi => Request::Multi(multi::decode(r)?),
            OpCode::MultiRead => Request::MultiRead(multi::decode_read(r)?),
            OpCode::Reconfig => Request::Reconfig(ReconfigRequest {
                joining: r.string()?,
                leaving: r.string()?,
                members: r.string()?,
                config_id: r.i64()?,
            }),
            OpCode::CloseSession => Request::CloseSession,
            OpCode::GetAcl => Request::GetAcl { path: r.text()? },
            OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber { path: r.text()? },
            OpCode::GetEphemerals => Request::GetEphemerals { prefix: r.string()? },
            OpCode::Sync => Request::Sync { path: r.string()? },
            OpCode::WhoAmI => Request::WhoAmI,
            OpCode::Auth => {
                r.i32()?;
                Request::Auth { scheme: r.string()?, auth: r.buffer()? }
            }
            OpCode::Sasl => Request::Sasl { token: r.buffer()? },
            OpCode::SetWatches | OpCode::SetWatches2 => Request::SetWatches(set_watches(op, r)?),
            OpCode::AddWatch => Request::AddWatch { path: r.text()?, mode: r.i32()? },
            OpCode::CheckWatches => Request::CheckWatches { path: r.text()?, kind: r.i32()? },
            OpCode::RemoveWatches => Request::RemoveWatches { path: r.text()?, kind: r.i32()? },
            OpCode::Error | OpCode::Notification | OpCode::Check | OpCode::CreateSession => {
                return Err(Malformed::UnknownType);
            }
        })
    }
}

impl Request<'_> {
    /// The operation's number.
    pub fn op(&self) -> OpCode {
        match self {
            Request::Create(request) => request.op,
            Request::Delete { .. } => OpCode::Delete,
            Request::DeleteContainer { .. } => OpCode::DeleteContainer,
            Request::SetData { .. } => OpCode::SetData,
            Request::SetAcl { .. } => OpCode::SetAcl,
            Request::Multi(_) => OpCode::Multi,
            Request::Reconfig(_) => OpCode::Reconfig,
            Request::CloseSession => OpCode::CloseSession,
            Request::Exists { .. } => OpCode::Exists,
            Request::GetData { .. } => OpCode::GetData,
            Request::GetAcl { .. } => OpCode::GetAcl,
            Request::GetChildren { .. } => OpCode::GetChildren,
            Request::GetChildren2 { .. } => OpCode::GetChildren2,
            Request::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
            Request::MultiRead(_) => OpCode::MultiRead,
            Request::GetEphemerals { .. } => OpCode::GetEphemerals,
            Request::Sync { .. } => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::WhoAmI => OpCode::WhoAmI,
            Request::Auth { .. } => OpCode::Auth,
            Request::Sasl { .. } => OpCode::Sasl,
            Request::SetWatches(lists) if lists.two => OpCode::SetWatches2,
            Request::SetWatches(_) => OpCode::SetWatches,
            Request::AddWatch { .. } => OpCode::AddWatch,
            Request::CheckWatches { .. } => OpCode::CheckWatches,
            Request::RemoveWatches { .. } => OpCode::RemoveWatches,
        }
    }

    /// Appends the record, as clients send it behind the header. For tests, tools and forwarding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Create(request) => request.encode(out),
            Request::Delete { path, version } => {
                out.put_string(path);
                out.put_i32(*version);
            }
            Request::SetData { path, data, version } => {
                out.put_string(path);
                out.put_buffer(*data);
                out.put_i32(*version);
            }
            Request::SetAcl { path, acl, version } => {
                out.put_string(path);
                out.extend_from_slice(acl.0);
                out.put_i32(*version);
            }
            Request::Multi(ops) => multi::encode(ops, out),
            Request::MultiRead(ops) => multi::encode_read(ops, out),
            Request::Reconfig(request) => {
                out.put_nullable(request.joining.as_deref());
                out.put_nullable(request.leaving.as_deref());
                out.put_nullable(request.members.as_deref());
                out.put_i64(request.config_id);
            }
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
            Request::Exists { path, watch }
            | Request::GetData { path, watch }
            | Request::GetChildren { path, watch }
            | Request::GetChildren2 { path, watch } => {
                out.put_string(path);
                out.put_bool(*watch);
            }
            Request::DeleteContainer { path }
            | Request::GetAcl { path }
            | Request::GetAllChildrenNumber { path } => out.put_string(path),
            Request::GetEphemerals { prefix: path } | Request::Sync { path } => {
                out.put_nullable(path.as_deref());
            }
            Request::Auth { scheme, auth } => {
                out.put_i32(0);
                out.put_nullable(scheme.as_deref());
                out.put_buffer(*auth);
            }
            Request::Sasl { token } => out.put_buffer(*token),
            Request::SetWatches(lists) => lists.encode(out),
            Request::AddWatch { path, mode: number }
            | Request::CheckWatches { path, kind: number }
            | Request::RemoveWatches { path, kind: number } => {
                out.put_string(path);
                out.put_i32(*number);
            }
        }
    }

    /// Appends a whole frame. For tests and tools.
    pub fn frame(&self, xid: Xid, out: &mut Vec<u8>) {
        put_frame(out, |out| {
            out.put_i32(xid.0);
            out.put_i32(self.op().to_i32());
            self.encode(out);
        });
    }
}

impl CreateRequest<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_string(&self.path);
        out.put_buffer(self.data);
        out.extend_from_slice(self.acl.0);
        out.put_i32(self.flags);
        if self.op == OpCode::CreateTtl {
            out.put_i64(self.ttl);
        }
    }
}

impl SetWatches<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_zxid(self.relative_zxid);
        let all = [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive];
        for list in &all[..if self.two { 5 } else { 3 }] {
            out.put_count(list.len());
            for path in *list {
                out.put_string(path);
            }
        }
    }
}

/// A create's record, whose path may be null.
pub(super) struct CreateRecord<'a> {
    op: OpCode,
    pub(super) path: Option<Cow<'a, str>>,
    data: Option<&'a [u8]>,
    pub(super) acl: AclField<'a>,
    pub(super) flags: i32,
    ttl: i64,
}

impl<'a> CreateRecord<'a> {
    pub(super) fn read(op: OpCode, r: &mut Reader<'a>) -> Result<CreateRecord<'a>, Malformed> {
        let (path, data, acl, flags) = (r.string()?, r.buffer()?, AclField::read(r)?, r.i32()?);
        let ttl = if op == OpCode::CreateTtl { r.i64()? } else { -1 };
        Ok(CreateRecord { op, path, data, acl, flags, ttl })
    }

    /// The whole record has been read before a null path counts: whether it decodes decides whether it takes a zxid.
    pub(super) fn request(self) -> Result<CreateRequest<'a>, Malformed> {
        let CreateRecord { op, path, data, acl, flags, ttl } = self;
        let path = match path {
            Some(path) => path,
            None if mode_is_valid(flags, ttl) && ttl > 0 => return Err(Malformed::NullTtlPath),
            None if mode_is_valid(flags, ttl) => return Err(Malformed::Null),
            // Bad flags are found before a null path; with the empty one they still are.
            None => Cow::default(),
        };
        Ok(CreateRequest { op, path, data, acl, flags, ttl })
    }
}

/// Whether the flags name a mode and the TTL is one that this mode may have.
fn mode_is_valid(flags: i32, ttl: i64) -> bool {
    match flags {
        0..=4 => ttl < 0,
        5 | 6 => (1..=TTL_MILLIS_MAX as i64).contains(&ttl),
        _ => false,
    }
}

fn set_watches<'a>(op: OpCode, r: &mut Reader<'a>) -> Result<SetWatches<'a>, Malformed> {
    fn list<'a>(r: &mut Reader<'a>) -> Result<Vec<Cow<'a, str>>, Malformed> {
        r.vector(|r| r.text())?.ok_or(Malformed::Null)
    }
    let two = op == OpCode::SetWatches2;
    Ok(SetWatches {
        two,
        relative_zxid: r.zxid()?,
        data: list(r)?,
        exist: list(r)?,
        child: list(r)?,
        persistent: if two { list(r)? } else { Vec::new() },
        recursive: if two { list(r)? } else { Vec::new() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Acl;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = Cow<'static, str>> {
        "/[a-z]{0,9}".prop_map(Cow::Owned)
    }

    fn paths() -> impl Strategy<Value = Vec<Cow<'static, str>>> {
        prop::collection::vec(path(), 0..4)
    }

    /// Bytes that outlive the test case: decoding borrows, and strategies own what they make.
    fn data() -> impl Strategy<Value = Option<&'static [u8]>> {
        prop::sample::select(vec![None, Some(&b""[..]), Some(&b"x"[..]), Some(&[0xff; 300][..])])
    }

    fn acl() -> impl Strategy<Value = AclField<'static>> {
        let two: &'static AclBytes<'static> =
            Box::leak(Box::new(AclBytes::encode(&[Acl::new(1, "digest", "a:b"), Acl::new(-1, "ip", "::1")])));
        prop::sample::select(vec![
            AclField(AclBytes::OPEN_BYTES),
            AclField(two.bytes()),
            AclField(&[0xff; 4]),
            AclField(&[0; 4]),
        ])
    }

    fn create() -> impl Strategy<Value = CreateRequest<'static>> {
        let ops = [OpCode::Create, OpCode::Create2, OpCode::CreateContainer, OpCode::CreateTtl];
        (prop::sample::select(ops.to_vec()), path(), data(), acl(), any::<i32>(), any::<i64>()).prop_map(
            |(op, path, data, acl, flags, ttl)| {
                let ttl = if op == OpCode::CreateTtl { ttl } else { -1 };
                CreateRequest { op, path, data, acl, flags, ttl }
            },
        )
    }

    fn set_watches() -> impl Strategy<Value = Request<'static>> {
        (any::<bool>(), any::<u64>(), paths(), paths(), paths(), paths(), paths()).prop_map(
            |(two, zxid, data, exist, child, persistent, recursive)| {
                let (persistent, recursive) = if two { (persistent, recursive) } else { (vec![], vec![]) };
                let relative_zxid = Zxid(zxid);
                Request::SetWatches(SetWatches {
                    two,
                    relative_zxid,
                    data,
                    exist,
                    child,
                    persistent,
                    recursive,
                })
            },
        )
    }

    fn request() -> impl Strategy<Value = Request<'static>> {
        let nullable = || prop::option::of(path());
        prop_oneof![
            create().prop_map(Request::Create),
            (path(), any::<i32>()).prop_map(|(path, version)| Request::Delete { path, version }),
            path().prop_map(|path| Request::DeleteContainer { path }),
            (path(), data(), any::<i32>()).prop_map(|(path, data, version)| Request::SetData {
                path,
                data,
                version
            }),
            (path(), acl(), any::<i32>()).prop_map(|(path, acl, version)| Request::SetAcl {
                path,
                acl,
                version
            }),
            (nullable(), nullable(), nullable(), any::<i64>()).prop_map(
                |(joining, leaving, members, config_id)| Request::Reconfig(ReconfigRequest {
                    joining,
                    leaving,
                    members,
                    config_id
                })
            ),
            prop::sample::select(vec![Request::CloseSession, Request::Ping, Request::WhoAmI]),
            (path(), any::<bool>()).prop_map(|(path, watch)| Request::Exists { path, watch }),
            (path(), any::<bool>()).prop_map(|(path, watch)| Request::GetData { path, watch }),
            (path(), any::<bool>()).prop_map(|(path, watch)| Request::GetChildren { path, watch }),
            (path(), any::<bool>()).prop_map(|(path, watch)| Request::GetChildren2 { path, watch }),
            path().prop_map(|path| Request::GetAcl { path }),
            path().prop_map(|path| Request::GetAllChildrenNumber { path }),
            nullable().prop_map(|prefix| Request::GetEphemerals { prefix }),
            nullable().prop_map(|path| Request::Sync { path }),
            (nullable(), data()).prop_map(|(scheme, auth)| Request::Auth { scheme, auth }),
            data().prop_map(|token| Request::Sasl { token }),
            set_watches(),
            (path(), any::<i32>()).prop_map(|(path, mode)| Request::AddWatch { path, mode }),
            (path(), any::<i32>()).prop_map(|(path, kind)| Request::CheckWatches { path, kind }),
            (path(), any::<i32>()).prop_map(|(path, kind)| Request::RemoveWatches { path, kind }),
        ]
    }

    proptest! {
        #[test]
        fn requests_come_back(request in request(), trailing: Vec<u8>) {
            let mut record = Vec::new();
            request.encode(&mut record);
            let whole = record.len();
            record.extend_from_slice(&trailing);
            prop_assert_eq!(Request::decode(request.op(), &record), Ok(request.clone()));
            // Every proper prefix is truncated.
            for cut in 0..whole.min(100) {
                prop_assert_eq!(Request::decode(request.op(), &record[..cut]), Err(Malformed::Truncated));
            }
        }
    }

    fn check(op: OpCode, record: &[u8], expected: Result<(), Malformed>) {
        assert_eq!(Request::decode(op, record).map(drop), expected, "{op:?} {record:02x?}");
    }

    #[test]
    fn null_paths_count_when_the_record_is_whole() {
        let null = [0xff; 4];
        let then = |rest: &[u8]| [&null[..], rest].concat();
        check(OpCode::GetData, &then(&[0]), Err(Malformed::Null));
        check(OpCode::Delete, &then(&[0; 4]), Err(Malformed::Null));
        check(OpCode::Delete, &null, Err(Malformed::Truncated));
        check(OpCode::SetData, &then(&[0; 8]), Ok(()));
        check(OpCode::SetData, &then(&[0; 4]), Err(Malformed::Truncated));
        check(OpCode::SetAcl, &then(&[0; 8]), Ok(()));
        check(OpCode::Create, &then(&[0; 12]), Err(Malformed::Null));
        check(OpCode::Create, &then(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]), Ok(()));
        check(OpCode::Create, &then(&[0; 8]), Err(Malformed::Truncated));
        let ttl = |flags: u8, ttl: i64| then(&[&[0; 11][..], &[flags], &ttl.to_be_bytes()].concat());
        check(OpCode::CreateTtl, &ttl(5, 1), Err(Malformed::NullTtlPath));
        check(OpCode::CreateTtl, &ttl(6, 0), Ok(()));
        check(OpCode::CreateTtl, &ttl(0, -1), Err(Malformed::Null));
        check(OpCode::Sync, &null, Ok(()));
        check(OpCode::GetEphemerals, &null, Ok(()));
        check(OpCode::SetWatches, &[0; 20], Ok(()));
        check(OpCode::SetWatches, &[&[0; 8], &null[..], &[0; 8]].concat(), Err(Malformed::Null));
        check(OpCode::SetWatches2, &[0; 20], Err(Malformed::Truncated));
    }

    #[test]
    fn numbers_that_are_no_requests() {
        for op in [OpCode::Error, OpCode::Notification, OpCode::Check, OpCode::CreateSession] {
            assert!(!op.is_request());
            check(op, &[0; 64], Err(Malformed::UnknownType));
        }
    }

    #[test]
    fn acls_as_sent() {
        let read = |bytes: &'static [u8]| AclField::read(&mut Reader::new(bytes)).unwrap();
        let open = read(AclBytes::OPEN_BYTES);
        assert!(open.is_open() && !open.is_null());
        assert_eq!(open.entries().unwrap()[0].to_acl(), Acl::new(31, "world", "anyone"));
        let null = read(&[0xff; 4]);
        assert!(null.is_null() && null.entries().is_none());
        assert_eq!(read(b"\xff\xff\xff\xfe").entries(), Some(vec![]));
        let nulls = read(b"\0\0\0\x01\0\0\0\x1f\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(nulls.entries().unwrap()[0], AclEntry { perms: 31, scheme: None, id: None });
    }

    #[test]
    fn headers() {
        let (header, record) = RequestHeader::decode(b"\0\0\0\x07\0\0\0\x04rest").unwrap();
        assert_eq!((header, record), (RequestHeader { xid: Xid(7), op: 4 }, &b"rest"[..]));
        assert_eq!(RequestHeader::decode(&[0; 7]), Err(Malformed::Truncated));
    }
}
