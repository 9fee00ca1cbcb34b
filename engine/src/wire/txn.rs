//! Txns as the log and the quorum's proposals carry them: header, body, optional digest.
//! Not here: the log's framing and our integrity trailer (`log`), and what a txn does (`world`).
//! Encoding what was decoded gives the same bytes, but for odd forms that no server writes any more (create V0).

use super::jute::{JutePut, Malformed, Reader};
use crate::model::{Acl, SessionId, WallMillis, Xid};
use ostler_replication::Zxid;
use std::borrow::Cow;

/// Types on disk. Those of creates are in `CreateKind`.
pub mod kind {
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const SET_DATA: i32 = 5;
    pub const SET_ACL: i32 = 7;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
}

/// Opens every entry: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnHeader {
    /// Whose request it was; `SessionId::NONE` for container and TTL deletions.
    pub session: SessionId,
    /// 0 for createSession and for closeSession that the server decided.
    pub cxid: Xid,
    pub zxid: Zxid,
    /// The leader's wall clock: what ctime and mtime become.
    pub time: WallMillis,
    /// Type of the body, as on disk: `TxnBody::kind`.
    pub kind: i32,
}

impl TxnHeader {
    pub const BYTES: usize = 32;

    pub fn decode(reader: &mut Reader<'_>) -> Result<TxnHeader, Malformed> {
        Ok(TxnHeader {
            session: SessionId(reader.i64()?),
            cxid: Xid(reader.i32()?),
            zxid: reader.zxid()?,
            time: WallMillis(reader.i64()?),
            kind: reader.i32()?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; TxnHeader::BYTES];
        bytes[0..8].copy_from_slice(&self.session.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.cxid.0.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.zxid.to_wire().to_be_bytes());
        bytes[20..28].copy_from_slice(&self.time.0.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

/// What a txn does, if nothing in it failed.
#[derive(Clone, PartialEq, Debug)]
pub enum TxnBody<'a> {
    CreateSession {
        timeout_ms: i32,
    },
    /// The session's ephemerals as of the txn. `None` is the body-less form of old servers: delete what the tree says.
    CloseSession {
        paths: Option<Vec<Cow<'a, str>>>,
    },
    /// A rejected write: takes its zxid and changes nothing.
    Error {
        code: i32,
    },
    Create(Create<'a>),
    Delete {
        path: Cow<'a, str>,
    },
    DeleteContainer {
        path: Cow<'a, str>,
    },
    /// `version` is the new one.
    SetData {
        path: Cow<'a, str>,
        data: Option<Cow<'a, [u8]>>,
        version: i32,
    },
    /// `version` is the new aversion.
    SetAcl {
        path: Cow<'a, str>,
        acl: AclBytes<'a>,
        version: i32,
    },
    Multi(Vec<SubTxn<'a>>),
    Reconfig {
        path: Cow<'a, str>,
        data: Option<Cow<'a, [u8]>>,
        version: i32,
    },
}

/// A new znode.
#[derive(Clone, PartialEq, Debug)]
pub struct Create<'a> {
    pub path: Cow<'a, str>,
    pub data: Option<Cow<'a, [u8]>>,
    pub acl: AclBytes<'a>,
    pub kind: CreateKind,
    /// The parent's stored cversion after this create; -1 in very old logs: one more than it is.
    pub parent_cversion: i32,
}

/// Which txn type a create is written as, and the fields that only that type has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CreateKind {
    /// Types 1 and 15, which have the same body.
    Plain { create2: bool, ephemeral: bool },
    /// Type 19.
    Container,
    /// Type 21, with the TTL in milliseconds.
    Ttl(i64),
}

impl CreateKind {
    pub const fn to_i32(self) -> i32 {
        match self {
            CreateKind::Plain { create2: false, .. } => kind::CREATE,
            CreateKind::Plain { create2: true, .. } => kind::CREATE2,
            CreateKind::Container => kind::CREATE_CONTAINER,
            CreateKind::Ttl(_) => kind::CREATE_TTL,
        }
    }
}

/// One operation of a multi. If any is an `Error`, none has an effect.
#[derive(Clone, PartialEq, Debug)]
pub enum SubTxn<'a> {
    /// The failed operation with its code, 0 (rolled back, only seen in foreign bytes) or -2 (after the failed one).
    /// `foreign` holds the data when it is not just the code: Apache rewrites the type of operations in place and
    /// leaves their data, which is then never looked at.
    Error {
        code: i32,
        foreign: Option<Cow<'a, [u8]>>,
    },
    Create(Create<'a>),
    Delete {
        path: Cow<'a, str>,
    },
    DeleteContainer {
        path: Cow<'a, str>,
    },
    SetData {
        path: Cow<'a, str>,
        data: Option<Cow<'a, [u8]>>,
        version: i32,
    },
    /// `version` is one more than the version that was found, as Apache writes it.
    Check {
        path: Cow<'a, str>,
        version: i32,
    },
}

impl SubTxn<'_> {
    pub const fn error(code: i32) -> SubTxn<'static> {
        SubTxn::Error { code, foreign: None }
    }

    pub const fn kind(&self) -> i32 {
        match self {
            SubTxn::Error { .. } => kind::ERROR,
            SubTxn::Create(create) => create.kind.to_i32(),
            SubTxn::Delete { .. } => kind::DELETE,
            SubTxn::DeleteContainer { .. } => kind::DELETE_CONTAINER,
            SubTxn::SetData { .. } => kind::SET_DATA,
            SubTxn::Check { .. } => kind::CHECK,
        }
    }
}

/// The jute encoding of a `vector<ACL>`: how ACLs travel and how they are interned, by equality of bytes. Made only by
/// its constructors, so it always decodes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AclBytes<'a>(Cow<'a, [u8]>);

impl<'a> AclBytes<'a> {
    /// world:anyone, all permissions: what nearly every znode has.
    pub const OPEN_BYTES: &'static [u8] =
        b"\x00\x00\x00\x01\x00\x00\x00\x1f\x00\x00\x00\x05world\x00\x00\x00\x06anyone";
    pub const OPEN: AclBytes<'static> = AclBytes(Cow::Borrowed(AclBytes::OPEN_BYTES));
    /// world:anyone may read: the ACL of `/zookeeper/config`.
    pub const READ_ONLY: AclBytes<'static> = AclBytes(Cow::Borrowed(
        b"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05world\x00\x00\x00\x06anyone",
    ));

    pub fn encode(acl: &[Acl]) -> AclBytes<'static> {
        let mut out = Vec::new();
        out.put_acl(acl);
        AclBytes(Cow::Owned(out))
    }

    /// Takes a vector of ACL entries off `reader`, in place if it is canonical. A null vector stays null (it permits
    /// everything); other negative counts become the empty one, and text that is not UTF-8 is replaced.
    pub fn read(reader: &mut Reader<'a>) -> Result<AclBytes<'a>, Malformed> {
        let whole = reader.rest();
        if whole.starts_with(AclBytes::OPEN_BYTES) {
            reader.take(AclBytes::OPEN_BYTES.len())?;
            return Ok(AclBytes::OPEN);
        }
        let start = reader.consumed();
        let mut canonical = true;
        let count = reader.i32()?;
        canonical &= count >= -1;
        for _ in 0..count.max(0) {
            reader.i32()?;
            for text in [reader.buffer()?, reader.buffer()?].into_iter().flatten() {
                canonical &= std::str::from_utf8(text).is_ok();
            }
        }
        let span = whole.get(..reader.consumed() - start).ok_or(Malformed::Truncated)?;
        if canonical {
            return Ok(AclBytes(Cow::Borrowed(span)));
        }
        let entries = Reader::new(span).vector(|reader| reader.acl_entry())?.unwrap_or_default();
        let mut out = Vec::new();
        out.put_count(entries.len());
        for entry in &entries {
            out.put_i32(entry.perms);
            out.put_nullable(entry.scheme.as_deref());
            out.put_nullable(entry.id.as_deref());
        }
        Ok(AclBytes(Cow::Owned(out)))
    }

    /// The whole of `bytes` as an ACL vector; `None` if it is none, or is not canonical.
    pub fn from_canonical(bytes: &'a [u8]) -> Option<AclBytes<'a>> {
        let mut reader = Reader::new(bytes);
        let acl = AclBytes::read(&mut reader).ok()?;
        (reader.rest().is_empty() && acl.bytes() == bytes).then_some(acl)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_open(&self) -> bool {
        &*self.0 == AclBytes::OPEN_BYTES
    }

    /// Null strings, which no server accepts from a client, decode as empty: they match nobody.
    pub fn decode(&self) -> Vec<Acl> {
        let entries = Reader::new(&self.0).vector(|reader| reader.acl_entry());
        let entries = entries.expect("constructors have read these bytes").unwrap_or_default();
        entries.into_iter().map(|entry| entry.to_acl()).collect()
    }

    pub fn to_static(&self) -> AclBytes<'static> {
        if self.is_open() { AclBytes::OPEN } else { AclBytes(Cow::Owned(self.0.to_vec())) }
    }
}

/// The tree's digest after the txn. `version` 2 is the only one that can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnDigest {
    pub version: i32,
    pub tree: u64,
}

impl TxnDigest {
    pub const VERSION: i32 = 2;
    pub const BYTES: usize = 12;

    pub const fn of(tree: u64) -> TxnDigest {
        TxnDigest { version: TxnDigest::VERSION, tree }
    }
}

/// One txn of the log or of a proposal, without our trailer.
#[derive(Clone, PartialEq, Debug)]
pub struct TxnEntry<'a> {
    pub header: TxnHeader,
    pub body: TxnBody<'a>,
    pub digest: Option<TxnDigest>,
}

impl<'a> TxnEntry<'a> {
    /// The entry and how many of `bytes` it took. A digest is there exactly if 12 bytes or more follow the body; what
    /// follows then is the caller's to judge.
    pub fn decode(bytes: &'a [u8]) -> Result<(TxnEntry<'a>, usize), Malformed> {
        let mut reader = Reader::new(bytes);
        let header = TxnHeader::decode(&mut reader)?;
        let body = TxnBody::decode(header.kind, &mut reader)?;
        let digest = if reader.rest().len() >= TxnDigest::BYTES {
            Some(TxnDigest { version: reader.i32()?, tree: reader.i64()? as u64 })
        } else {
            None
        };
        Ok((TxnEntry { header, body, digest }, reader.consumed()))
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_entry(&self.header, &self.body, self.digest, out);
    }
}

/// `TxnEntry::encode` for parts that are not held together.
pub fn encode_entry(header: &TxnHeader, body: &TxnBody<'_>, digest: Option<TxnDigest>, out: &mut Vec<u8>) {
    header.encode(out);
    body.encode(out);
    if let Some(digest) = digest {
        out.put_i32(digest.version);
        out.put_i64(digest.tree as i64);
    }
}

impl<'a> TxnBody<'a> {
    /// Type on disk.
    pub const fn kind(&self) -> i32 {
        match self {
            TxnBody::CreateSession { .. } => kind::CREATE_SESSION,
            TxnBody::CloseSession { .. } => kind::CLOSE_SESSION,
            TxnBody::Error { .. } => kind::ERROR,
            TxnBody::Create(create) => create.kind.to_i32(),
            TxnBody::Delete { .. } => kind::DELETE,
            TxnBody::DeleteContainer { .. } => kind::DELETE_CONTAINER,
            TxnBody::SetData { .. } => kind::SET_DATA,
            TxnBody::SetAcl { .. } => kind::SET_ACL,
            TxnBody::Multi(_) => kind::MULTI,
            TxnBody::Reconfig { .. } => kind::RECONFIG,
        }
    }

    fn decode(kind: i32, r: &mut Reader<'a>) -> Result<TxnBody<'a>, Malformed> {
        Ok(match kind {
            kind::CREATE | kind::CREATE2 => TxnBody::Create(create_plain(kind, r, true)?),
            kind::CREATE_CONTAINER | kind::CREATE_TTL => TxnBody::Create(create_extended(kind, r)?),
            kind::DELETE => TxnBody::Delete { path: r.text()? },
            kind::DELETE_CONTAINER => TxnBody::DeleteContainer { path: r.text()? },
            kind::SET_DATA => TxnBody::SetData { path: r.text()?, data: data(r)?, version: r.i32()? },
            kind::RECONFIG => TxnBody::Reconfig { path: r.text()?, data: data(r)?, version: r.i32()? },
            kind::SET_ACL => TxnBody::SetAcl { path: r.text()?, acl: AclBytes::read(r)?, version: r.i32()? },
            kind::CREATE_SESSION => TxnBody::CreateSession { timeout_ms: r.i32()? },
            kind::CLOSE_SESSION => TxnBody::CloseSession { paths: close_paths(r)? },
            kind::ERROR => TxnBody::Error { code: r.i32()? },
            kind::MULTI => {
                TxnBody::Multi(r.vector(|r| SubTxn::decode(r.i32()?, r.buffer()?))?.unwrap_or_default())
            }
            _ => return Err(Malformed::UnknownType),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            TxnBody::CreateSession { timeout_ms } => out.put_i32(*timeout_ms),
            TxnBody::CloseSession { paths: None } => {}
            TxnBody::CloseSession { paths: Some(paths) } => {
                out.put_count(paths.len());
                for path in paths {
                    out.put_string(path);
                }
            }
            TxnBody::Error { code } => out.put_i32(*code),
            TxnBody::Create(create) => create.encode(out),
            TxnBody::Delete { path } | TxnBody::DeleteContainer { path } => out.put_string(path),
            TxnBody::SetData { path, data, version } | TxnBody::Reconfig { path, data, version } => {
                out.put_string(path);
                out.put_buffer(data.as_deref());
                out.put_i32(*version);
            }
            TxnBody::SetAcl { path, acl, version } => {
                out.put_string(path);
                out.extend_from_slice(acl.bytes());
                out.put_i32(*version);
            }
            TxnBody::Multi(subs) => {
                out.put_count(subs.len());
                for sub in subs {
                    sub.encode(out);
                }
            }
        }
    }
}

impl<'a> SubTxn<'a> {
    fn decode(kind: i32, bytes: Option<&'a [u8]>) -> Result<SubTxn<'a>, Malformed> {
        let bytes = bytes.unwrap_or_default();
        let r = &mut Reader::new(bytes);
        Ok(match kind {
            kind::ERROR => {
                let code = r.i32().unwrap_or(0);
                let foreign = (bytes.len() != 4).then_some(Cow::Borrowed(bytes));
                SubTxn::Error { code, foreign }
            }
            kind::CREATE | kind::CREATE2 => SubTxn::Create(create_plain(kind, r, false)?),
            kind::CREATE_CONTAINER | kind::CREATE_TTL => SubTxn::Create(create_extended(kind, r)?),
            kind::DELETE => SubTxn::Delete { path: r.text()? },
            kind::DELETE_CONTAINER => SubTxn::DeleteContainer { path: r.text()? },
            kind::SET_DATA => SubTxn::SetData { path: r.text()?, data: data(r)?, version: r.i32()? },
            kind::CHECK => SubTxn::Check { path: r.text()?, version: r.i32()? },
            _ => return Err(Malformed::UnknownType),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_i32(self.kind());
        let start = out.len();
        out.put_i32(0);
        match self {
            SubTxn::Error { foreign: Some(bytes), .. } => out.extend_from_slice(bytes),
            SubTxn::Error { code, foreign: None } => out.put_i32(*code),
            SubTxn::Create(create) => create.encode(out),
            SubTxn::Delete { path } | SubTxn::DeleteContainer { path } => out.put_string(path),
            SubTxn::SetData { path, data, version } => {
                out.put_string(path);
                out.put_buffer(data.as_deref());
                out.put_i32(*version);
            }
            SubTxn::Check { path, version } => {
                out.put_string(path);
                out.put_i32(*version);
            }
        }
        let length = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

impl Create<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_string(&self.path);
        out.put_buffer(self.data.as_deref());
        out.extend_from_slice(self.acl.bytes());
        if let CreateKind::Plain { ephemeral, .. } = self.kind {
            out.put_bool(ephemeral);
        }
        out.put_i32(self.parent_cversion);
        if let CreateKind::Ttl(ttl) = self.kind {
            out.put_i64(ttl);
        }
    }
}

/// Types 1 and 15. The V0 body of very old logs ends before the parent's cversion; only an entry of type 1 whose bytes
/// end there is read as one.
fn create_plain<'a>(kind: i32, r: &mut Reader<'a>, whole_entry: bool) -> Result<Create<'a>, Malformed> {
    let (path, data, acl, ephemeral) = (r.text()?, data(r)?, AclBytes::read(r)?, r.bool()?);
    let parent_cversion = match r.i32() {
        Err(Malformed::Truncated) if whole_entry && kind == kind::CREATE => -1,
        other => other?,
    };
    let create2 = kind == kind::CREATE2;
    Ok(Create { path, data, acl, kind: CreateKind::Plain { create2, ephemeral }, parent_cversion })
}

fn create_extended<'a>(kind: i32, r: &mut Reader<'a>) -> Result<Create<'a>, Malformed> {
    let (path, data, acl, parent_cversion) = (r.text()?, data(r)?, AclBytes::read(r)?, r.i32()?);
    let kind = if kind == kind::CREATE_TTL { CreateKind::Ttl(r.i64()?) } else { CreateKind::Container };
    Ok(Create { path, data, acl, kind, parent_cversion })
}

fn data<'a>(r: &mut Reader<'a>) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
    Ok(r.buffer()?.map(Cow::Borrowed))
}

/// Nothing left: body-less. Exactly a digest left that is no whole vector: body-less with a digest.
fn close_paths<'a>(r: &mut Reader<'a>) -> Result<Option<Vec<Cow<'a, str>>>, Malformed> {
    if r.rest().is_empty() {
        return Ok(None);
    }
    let before = *r;
    let paths = r.vector(|r| r.text());
    if before.rest().len() == TxnDigest::BYTES && (paths.is_err() || !r.rest().is_empty()) {
        *r = before;
        return Ok(None);
    }
    // A null list is what no server writes; it is read as the empty one.
    Ok(Some(paths?.unwrap_or_default()))
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;
