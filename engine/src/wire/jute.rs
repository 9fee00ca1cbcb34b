//! Jute, the encoding of every record on ZooKeeper's wires and in its files (client-protocol.md §1).
//! Not here: any record but the few that everything shares (ACL entries, Stat).

use crate::model::acl::AclEntry;
use crate::model::{Acl, Stat};
use ostler_replication::Zxid;
use std::borrow::Cow;

/// Why bytes are not the record they should be. Clients get -5 for each; what else follows differs per kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside the record, or announce a length they do not have.
    #[error("the bytes end before the record does, or a length in it is impossible")]
    Truncated,
    /// The record is whole, but a string or vector that may not be null is.
    #[error("a field that may not be null is null")]
    Null,
    /// The list of a multi is whole as bytes, but not a list that a multi may carry (client-protocol.md §7).
    #[error("a multi carries an operation it may not")]
    Disallowed,
    /// A txn type or sub-txn type that does not exist.
    #[error("no txn has this type")]
    UnknownType,
}

/// Takes values off the front of a byte slice. Borrows what it can; a length is checked against the bytes at hand
/// before anything is taken, so no announced length allocates.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, whole: bytes.len() }
    }

    /// Bytes taken so far.
    pub fn consumed(&self) -> usize {
        self.whole - self.rest.len()
    }

    /// What has not been taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Any byte but 0 is true.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.array::<1>()? != [0])
    }

    #[inline]
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn zxid(&mut self) -> Result<Zxid, Malformed> {
        self.i64().map(Zxid::from_wire)
    }

    /// `None` is null, which is not the same as empty. Other negative lengths are malformed.
    #[inline]
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Malformed::Truncated)?).map(Some),
        }
    }

    /// Bytes that are no UTF-8 become U+FFFD, as for Java's decoder; only then does this allocate.
    #[inline]
    pub fn string(&mut self) -> Result<Option<Cow<'a, str>>, Malformed> {
        Ok(self.buffer()?.map(text))
    }

    /// A string that may not be null.
    #[inline]
    pub fn text(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.string()?.ok_or(Malformed::Null)
    }

    /// Count of a vector: `None` is null, any other negative count is an empty vector (as Java's reader has it).
    pub fn count(&mut self) -> Result<Option<usize>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            count => Ok(Some(usize::try_from(count).unwrap_or(0))),
        }
    }

    /// A vector by its element reader. Grows by what was read: an element costs at least one byte of input, or the
    /// reader fails.
    pub fn vector<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = self.count()? else { return Ok(None) };
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    pub fn acl_entry(&mut self) -> Result<AclEntry<'a>, Malformed> {
        Ok(AclEntry { perms: self.i32()?, scheme: self.string()?, id: self.string()? })
    }
}

/// UTF-8, leniently.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(lossy(bytes)),
    }
}

/// Java's decoder replaces an encoded surrogate (3 bytes) by one U+FFFD, where Rust's gives three. Java clients write
/// supplementary characters as two such, so this shows in echoed strings.
#[cold]
fn lossy(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let surrogate = rest.windows(3).position(is_surrogate).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(surrogate);
        out.push_str(&String::from_utf8_lossy(plain));
        if tail.is_empty() {
            break;
        }
        out.push('\u{fffd}');
        rest = tail.get(3..).unwrap_or_default();
    }
    out
}

fn is_surrogate(three: &[u8]) -> bool {
    matches!(three, [0xed, 0xa0..=0xbf, 0x80..=0xbf])
}

/// Appends values to a byte vector.
pub trait JutePut {
    fn put_bool(&mut self, value: bool);
    fn put_i32(&mut self, value: i32);
    fn put_i64(&mut self, value: i64);
    fn put_zxid(&mut self, value: Zxid);
    /// `None` is null.
    fn put_buffer(&mut self, value: Option<&[u8]>);
    fn put_string(&mut self, value: &str);
    /// `None` is null.
    fn put_nullable(&mut self, value: Option<&str>);
    /// Count of a vector; the elements follow.
    fn put_count(&mut self, count: usize);
    fn put_acl(&mut self, acl: &[Acl]);
    fn put_stat(&mut self, stat: &Stat);
}

/// Lengths here are of things that arrived in frames or files of less than 2 GiB. A length that does not fit is a bug
/// of ours; the frame it is in is bounded again in `reply`.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("no single value reaches 2 GiB")
}

impl JutePut for Vec<u8> {
    fn put_bool(&mut self, value: bool) {
        self.push(value as u8);
    }

    #[inline]
    fn put_i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    fn put_zxid(&mut self, value: Zxid) {
        self.put_i64(value.to_wire());
    }

    #[inline]
    fn put_buffer(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.put_i32(-1),
            Some(bytes) => {
                self.put_i32(length(bytes.len()));
                self.extend_from_slice(bytes);
            }
        }
    }

    #[inline]
    fn put_string(&mut self, value: &str) {
        self.put_buffer(Some(value.as_bytes()));
    }

    fn put_nullable(&mut self, value: Option<&str>) {
        self.put_buffer(value.map(str::as_bytes));
    }

    fn put_count(&mut self, count: usize) {
        self.put_i32(length(count));
    }

    fn put_acl(&mut self, acl: &[Acl]) {
        self.put_count(acl.len());
        for entry in acl {
            self.put_i32(entry.perms);
            self.put_string(&entry.id.scheme);
            self.put_string(&entry.id.id);
        }
    }

    #[inline]
    fn put_stat(&mut self, stat: &Stat) {
        self.extend_from_slice(&stat_bytes(stat));
    }
}

/// Encoded size of a Stat.
pub const STAT_BYTES: usize = 68;

/// A Stat as one block of stores: no capacity check per field.
#[inline]
pub fn stat_bytes(stat: &Stat) -> [u8; STAT_BYTES] {
    let mut out = [0; STAT_BYTES];
    out[0..8].copy_from_slice(&stat.czxid.to_wire().to_be_bytes());
    out[8..16].copy_from_slice(&stat.mzxid.to_wire().to_be_bytes());
    out[16..24].copy_from_slice(&stat.ctime.0.to_be_bytes());
    out[24..32].copy_from_slice(&stat.mtime.0.to_be_bytes());
    out[32..36].copy_from_slice(&stat.version.to_be_bytes());
    out[36..40].copy_from_slice(&stat.cversion.to_be_bytes());
    out[40..44].copy_from_slice(&stat.aversion.to_be_bytes());
    out[44..52].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    out[52..56].copy_from_slice(&stat.data_length.to_be_bytes());
    out[56..60].copy_from_slice(&stat.num_children.to_be_bytes());
    out[60..68].copy_from_slice(&stat.pzxid.to_wire().to_be_bytes());
    out
}
