//! Requests as clients send them (client-protocol.md §6, §7): decoding in place, borrowing from the frame.
//! Not here: what is answered, and whether a request is allowed; encoding is for tests and tools.

use super::jute::{Malformed, Reader};
use super::txn::AclBytes;
use crate::model::Xid;
use crate::model::acl::AclEntry;
use ostler_replication::Zxid;
use std::borrow::Cow;

/// Operation numbers (ZooDefs). All that occur on wires and disks; `is_request` tells which a client may send.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum OpCode {
    Error = -1,
    CreateSession = -10,
    CloseSession = -11,
    Notification = 0,
    Create = 1,
    Delete = 2,
    Exists = 3,
    GetData = 4,
    SetData = 5,
    GetAcl = 6,
    SetAcl = 7,
    GetChildren = 8,
    Sync = 9,
    Ping = 11,
    GetChildren2 = 12,
    Check = 13,
    Multi = 14,
    Create2 = 15,
    Reconfig = 16,
    CheckWatches = 17,
    RemoveWatches = 18,
    CreateContainer = 19,
    DeleteContainer = 20,
    CreateTtl = 21,
    MultiRead = 22,
    Auth = 100,
    SetWatches = 101,
    Sasl = 102,
    GetEphemerals = 103,
    GetAllChildrenNumber = 104,
    SetWatches2 = 105,
    AddWatch = 106,
    WhoAmI = 107,
}

impl OpCode {
    /// Every op, in the order of their numbers.
    pub const ALL: [OpCode; 33] = [
        OpCode::CloseSession,
        OpCode::CreateSession,
        OpCode::Error,
        OpCode::Notification,
        OpCode::Create,
        OpCode::Delete,
        OpCode::Exists,
        OpCode::GetData,
        OpCode::SetData,
        OpCode::GetAcl,
        OpCode::SetAcl,
        OpCode::GetChildren,
        OpCode::Sync,
        OpCode::Ping,
        OpCode::GetChildren2,
        OpCode::Check,
        OpCode::Multi,
        OpCode::Create2,
        OpCode::Reconfig,
        OpCode::CheckWatches,
        OpCode::RemoveWatches,
        OpCode::CreateContainer,
        OpCode::DeleteContainer,
        OpCode::CreateTtl,
        OpCode::MultiRead,
        OpCode::Auth,
        OpCode::SetWatches,
        OpCode::Sasl,
        OpCode::GetEphemerals,
        OpCode::GetAllChildrenNumber,
        OpCode::SetWatches2,
        OpCode::AddWatch,
        OpCode::WhoAmI,
    ];

    pub const fn from_i32(raw: i32) -> Option<OpCode> {
        Some(match raw {
            -11 => OpCode::CloseSession,
            -10 => OpCode::CreateSession,
            -1 => OpCode::Error,
            0 => OpCode::Notification,
            1 => OpCode::Create,
            2 => OpCode::Delete,
            3 => OpCode::Exists,
            4 => OpCode::GetData,
            5 => OpCode::SetData,
            6 => OpCode::GetAcl,
            7 => OpCode::SetAcl,
            8 => OpCode::GetChildren,
            9 => OpCode::Sync,
            11 => OpCode::Ping,
            12 => OpCode::GetChildren2,
            13 => OpCode::Check,
            14 => OpCode::Multi,
            15 => OpCode::Create2,
            16 => OpCode::Reconfig,
            17 => OpCode::CheckWatches,
            18 => OpCode::RemoveWatches,
            19 => OpCode::CreateContainer,
            20 => OpCode::DeleteContainer,
            21 => OpCode::CreateTtl,
            22 => OpCode::MultiRead,
            100 => OpCode::Auth,
            101 => OpCode::SetWatches,
            102 => OpCode::Sasl,
            103 => OpCode::GetEphemerals,
            104 => OpCode::GetAllChildrenNumber,
            105 => OpCode::SetWatches2,
            106 => OpCode::AddWatch,
            107 => OpCode::WhoAmI,
            _ => return None,
        })
    }

    pub const fn to_i32(self) -> i32 {
        self as i32
    }

    /// May stand in a request header. Everything else is answered -6 with header zxid -1, and the connection is
    /// closed; createSession among it (hazard H11).
    pub const fn is_request(self) -> bool {
        !matches!(self, OpCode::Error | OpCode::Notification | OpCode::Check | OpCode::CreateSession)
    }

    /// Goes through the core, takes a place in the order, and (but for what does not decode) a zxid.
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            OpCode::Create
                | OpCode::Create2
                | OpCode::CreateContainer
                | OpCode::CreateTtl
                | OpCode::Delete
                | OpCode::DeleteContainer
                | OpCode::SetData
                | OpCode::SetAcl
                | OpCode::Multi
                | OpCode::Reconfig
                | OpCode::CloseSession
        )
    }
}

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
    pub relative_zxid: Zxid,
    pub data: Vec<Cow<'a, str>>,
    pub exist: Vec<Cow<'a, str>>,
    pub child: Vec<Cow<'a, str>>,
    pub persistent: Vec<Cow<'a, str>>,
    pub recursive: Vec<Cow<'a, str>>,
}

/// One operation of a multi, normalised as Apache's reader does (client-protocol.md §7).
#[derive(Clone, PartialEq, Debug)]
pub enum MultiOp<'a> {
    Create(CreateRequest<'a>),
    Delete { path: Cow<'a, str>, version: i32 },
    SetData { path: Cow<'a, str>, data: Option<&'a [u8]>, version: i32 },
    Check { path: Cow<'a, str>, version: i32 },
}

/// One operation of a multiRead; the watch flags sent with them mean nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum MultiReadOp<'a> {
    GetData { path: Cow<'a, str> },
    GetChildren { path: Cow<'a, str> },
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
                Request::Create(create(op, r)?)
            }
            OpCode::SetData => {
                let (path, data, version) = (r.string()?, r.buffer()?, r.i32()?);
                Request::SetData { path: path.ok_or(Malformed::Null)?, data, version }
            }
            OpCode::Delete => {
                let (path, version) = (r.string()?, r.i32()?);
                Request::Delete { path: path.ok_or(Malformed::Null)?, version }
            }
            OpCode::DeleteContainer => Request::DeleteContainer { path: r.text()? },
            OpCode::SetAcl => {
                let (path, acl, version) = (r.string()?, AclField::read(r)?, r.i32()?);
                Request::SetAcl { path: path.ok_or(Malformed::Null)?, acl, version }
            }
            OpCode::Multi => Request::Multi(multi(r)?),
            OpCode::MultiRead => Request::MultiRead(multi_read(r)?),
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

/// A create's record. The whole of it is read before a null path counts: whether a request decodes decides whether it
/// takes a zxid.
fn create<'a>(op: OpCode, r: &mut Reader<'a>) -> Result<CreateRequest<'a>, Malformed> {
    let (path, data, acl, flags) = (r.string()?, r.buffer()?, AclField::read(r)?, r.i32()?);
    let ttl = if op == OpCode::CreateTtl { r.i64()? } else { -1 };
    Ok(CreateRequest { op, path: path.ok_or(Malformed::Null)?, data, acl, flags, ttl })
}

fn set_watches<'a>(op: OpCode, r: &mut Reader<'a>) -> Result<SetWatches<'a>, Malformed> {
    fn list<'a>(r: &mut Reader<'a>) -> Result<Vec<Cow<'a, str>>, Malformed> {
        r.vector(|r| r.text())?.ok_or(Malformed::Null)
    }
    let more = op == OpCode::SetWatches2;
    Ok(SetWatches {
        relative_zxid: r.zxid()?,
        data: list(r)?,
        exist: list(r)?,
        child: list(r)?,
        persistent: if more { list(r)? } else { Vec::new() },
        recursive: if more { list(r)? } else { Vec::new() },
    })
}

/// Type of the next operation, `None` at the end. The end is told by `done`, not by the type.
fn multi_header(r: &mut Reader<'_>) -> Result<Option<i32>, Malformed> {
    let (kind, done, _err) = (r.i32()?, r.bool()?, r.i32()?);
    Ok((!done).then_some(kind))
}

/// A multi's list. What is wrong with the bytes comes before what is wrong with the list, and that before null paths.
fn multi<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiOp<'a>>, Malformed> {
    let mut ops = Vec::new();
    let mut null_path = false;
    while let Some(kind) = multi_header(r)? {
        let op = match OpCode::from_i32(kind) {
            Some(op @ (OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl)) => {
                match create(op, r) {
                    Ok(request) => MultiOp::Create(normalised(request)?),
                    Err(Malformed::Null) => {
                        null_path = true;
                        continue;
                    }
                    Err(malformed) => return Err(malformed),
                }
            }
            Some(OpCode::Delete) => {
                let (path, version) = (r.string()?, r.i32()?);
                null_path |= path.is_none();
                MultiOp::Delete { path: path.unwrap_or_default(), version }
            }
            Some(OpCode::SetData) => {
                let (path, data, version) = (r.string()?, r.buffer()?, r.i32()?);
                null_path |= path.is_none();
                MultiOp::SetData { path: path.unwrap_or_default(), data, version }
            }
            Some(OpCode::Check) => {
                let (path, version) = (r.string()?, r.i32()?);
                null_path |= path.is_none();
                MultiOp::Check { path: path.unwrap_or_default(), version }
            }
            _ => return Err(Malformed::Disallowed),
        };
        ops.push(op);
    }
    if null_path { Err(Malformed::Null) } else { Ok(ops) }
}

/// CreateMode numbers that matter to a multi's reader.
const FLAGS_CONTAINER: i32 = 4;
const FLAGS_MAX: i32 = 6;

/// Apache reads a multi's creates by their flags, not by their op: a container flag makes a container under op 1 and
/// 15, and createTTL without a TTL flag is a plain create (or container) whose ttl is dropped.
fn normalised(mut request: CreateRequest<'_>) -> Result<CreateRequest<'_>, Malformed> {
    let flags_known = (0..=FLAGS_MAX).contains(&request.flags);
    let flags_ttl = flags_known && request.flags > FLAGS_CONTAINER;
    if request.op == OpCode::CreateTtl {
        if flags_known && !flags_ttl {
            request.ttl = -1;
            request.op =
                if request.flags == FLAGS_CONTAINER { OpCode::CreateContainer } else { OpCode::Create2 };
        }
        // With a TTL flag it stands; with an unknown one, or a null ACL, this operation alone fails later.
        return Ok(request);
    }
    if !flags_known || flags_ttl || request.acl.is_null() {
        return Err(Malformed::Disallowed);
    }
    if request.flags == FLAGS_CONTAINER {
        request.op = OpCode::CreateContainer;
    }
    Ok(request)
}

fn multi_read<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiReadOp<'a>>, Malformed> {
    let mut ops = Vec::new();
    while let Some(kind) = multi_header(r)? {
        let op = OpCode::from_i32(kind);
        if !matches!(op, Some(OpCode::GetData | OpCode::GetChildren)) {
            return Err(Malformed::Disallowed);
        }
        let (path, _watch) = (r.text()?, r.bool()?);
        ops.push(match op {
            Some(OpCode::GetData) => MultiReadOp::GetData { path },
            _ => MultiReadOp::GetChildren { path },
        });
    }
    Ok(ops)
}
