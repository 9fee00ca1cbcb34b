//! Jute, the encoding of every record on ZooKeeper's wires and in its files.
//! Not here: any record but the few that everything shares (ACL entries, Stat).

use super::op::OpCode;
use crate::model::acl::AclEntry;
use crate::model::{Acl, Stat, WallMillis};
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
    /// The path of a create of a TTL znode is null, and nothing else is wrong. Where TTL znodes are switched off, that
    /// comes first: -6 and not -5.
    #[error("the path of a TTL znode to be created is null")]
    NullTtlPath,
    /// A create in a multi has a null ACL. Apache trips over it before it has taken a zxid.
    #[error("a create in a multi has a null ACL")]
    NullAcl,
    /// The list of a multi is whole as bytes, but not a list that a multi may carry.
    #[error("a multi carries an operation it may not")]
    Disallowed,
    /// A txn type or sub-txn type that does not exist.
    #[error("no txn has this type")]
    UnknownType,
}

impl Malformed {
    /// Whether a write that is malformed like this takes a zxid all the same, as an error txn with -5: a null path does,
    /// and a multi does however bad it is, but for a null ACL (as observed on Apache 3.9.5).
    pub const fn takes_zxid(self, op: OpCode) -> bool {
        match op {
            OpCode::Multi => !matches!(self, Malformed::NullAcl),
            _ => matches!(self, Malformed::Null | Malformed::NullTtlPath),
        }
    }
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

    pub fn stat(&mut self) -> Result<Stat, Malformed> {
        Ok(Stat {
            czxid: self.zxid()?,
            mzxid: self.zxid()?,
            ctime: WallMillis(self.i64()?),
            mtime: WallMillis(self.i64()?),
            version: self.i32()?,
            cversion: self.i32()?,
            aversion: self.i32()?,
            ephemeral_owner: self.i64()?,
            data_length: self.i32()?,
            num_children: self.i32()?,
            pzxid: self.zxid()?,
        })
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

/// Java's decoder replaces an encoded surrogate, or what there is of one, by one U+FFFD where Rust's gives one a byte.
/// Java clients write supplementary characters as two such, so this shows in echoed strings.
#[cold]
fn lossy(bytes: &[u8]) -> String {
    let is_surrogate = |two: &[u8]| matches!(two, [0xed, 0xa0..=0xbf]);
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(is_surrogate) {
        out.push_str(&String::from_utf8_lossy(&rest[..at]));
        out.push('\u{fffd}');
        rest = match &rest[at + 2..] {
            [0x80..=0xbf, tail @ ..] => tail,
            tail => tail,
        };
    }
    out.push_str(&String::from_utf8_lossy(rest));
    out
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_text(bytes: &[u8], expected: &str) {
        let mut out = Vec::new();
        out.put_buffer(Some(bytes));
        assert_eq!(Reader::new(&out).text().as_deref(), Ok(expected), "{bytes:02x?}");
    }

    /// What Apache 3.9.5 on Java 17 echoes in sync for these paths.
    #[test]
    fn text_that_is_not_utf8_reads_as_in_java() {
        check_text(b"/a", "/a");
        check_text("/\u{1f600}".as_bytes(), "/\u{1f600}");
        check_text(b"\xed\xa0\xbd\xed\xb8\x80", "\u{fffd}\u{fffd}");
        check_text(b"a\xf0\x80\x9f", "a\u{fffd}\u{fffd}\u{fffd}");
        check_text(b"\xe0\x80\x9f", "\u{fffd}\u{fffd}\u{fffd}");
        check_text(b"\xf0\x9f\x98", "\u{fffd}");
        check_text(b"\xed\xa0A", "\u{fffd}A");
        check_text(b"\xed\xa0", "\u{fffd}");
        check_text(b"\xc0A", "\u{fffd}A");
        check_text(b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn lengths_are_checked_before_anything_is_taken() {
        let read = |length: i32, bytes: &[u8]| {
            let mut input = length.to_be_bytes().to_vec();
            input.extend_from_slice(bytes);
            Reader::new(&input).buffer().map(|found| found.map(<[u8]>::to_vec))
        };
        assert_eq!(read(-1, b"x"), Ok(None));
        assert_eq!(read(0, b"x"), Ok(Some(vec![])));
        assert_eq!(read(1, b"xy"), Ok(Some(b"x".to_vec())));
        for bad in [2, -2, i32::MIN, i32::MAX] {
            assert_eq!(read(bad, b"x"), Err(Malformed::Truncated));
        }
    }

    #[test]
    fn vectors() {
        let read = |count: i32| {
            let mut input = count.to_be_bytes().to_vec();
            input.extend_from_slice(&[0, 1, 2]);
            Reader::new(&input).vector(Reader::bool)
        };
        assert_eq!(read(-1), Ok(None));
        assert_eq!(read(-2), Ok(Some(vec![])));
        assert_eq!(read(3), Ok(Some(vec![false, true, true])));
        assert_eq!(read(i32::MAX), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn values_come_back(flag: bool, int: i32, long: i64, data: Option<Vec<u8>>, text: Option<String>) {
            let mut out = Vec::new();
            out.put_bool(flag);
            out.put_i32(int);
            out.put_i64(long);
            out.put_buffer(data.as_deref());
            out.put_nullable(text.as_deref());
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.bool(), Ok(flag));
            prop_assert_eq!(reader.i32(), Ok(int));
            prop_assert_eq!(reader.i64(), Ok(long));
            prop_assert_eq!(reader.buffer(), Ok(data.as_deref()));
            let found = reader.string().unwrap();
            prop_assert_eq!(found.as_deref(), text.as_deref());
            prop_assert_eq!(reader.consumed(), out.len());
        }

        #[test]
        fn any_bytes_are_some_text(bytes: Vec<u8>) {
            let text = text(&bytes);
            prop_assert!(text.len() <= 3 * bytes.len());
        }
    }
}
