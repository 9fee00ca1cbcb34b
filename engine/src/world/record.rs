//! Records: one version of one znode each, packed into a block. Immutable once a View can see them.
//! Not here: which version a View sees (view), when a record is freed (retire).
//!
//! # Layout (little endian, unaligned behind the first 8 bytes; sections in this order, present as the flags say)
//! ```text
//!   parent id 4 | flags 10 bits, czxid's bits 40 to 45 | name length 1 | inline data length 1
//!   STAMPED   stamp 8, handle of the older version 4, mark 4, digest 4    a tombstone has this and the name only
//!   (always)  czxid's low 40 bits 5, ctime's distance from `CTIME_FIRST` 5
//!   WIDE      instead of these czxid 8, ctime 8                   when either has more bits
//!   CHANGED   mzxid 8, mtime 8, version 4, aversion 4             otherwise as created
//!   PARENT    pzxid 8, cversion 4, children's root 4, count 4     otherwise czxid, 0, none (see `packed_count`)
//!   OWNER     stored ephemeralOwner 8
//!   ACL       acl id 4                                            otherwise open to all
//!   LONG      name length 4                                       the length of 1 byte is 0 then
//!   EXTERNAL  handle of the data's blob 4
//!   name, then inline data
//! ```
//! # Who runs at once
//! Readers load a record's handle with acquire from the node table, which the writer stored with release after the
//! record was complete. Readers look first at flags and at the stamp (czxid when not STAMPED). Those and the older
//! handle never change while the record can be reached. If the stamp is newer than their View they go on to the older
//! version and touch nothing else, and so the writer may edit the sections behind the stamp in place as long as no View
//! holds the record's batch (`overwrite`). Name and parent never change at all: they may be read of any version. Mark
//! and digest are the writer's alone.

use super::arena::{Handle, Memory};
use super::table::{CACHE_LINE_BYTES, prefetch};
use crate::model::java::Table;
use crate::model::{Owner, StatPersisted, WallMillis};
use ostler_replication::Zxid;
use std::marker::PhantomData;

/// Names a znode as long as it, or a View that sees it, lives; its number is used again later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// For whoever keeps very many of them.
    pub fn number(self) -> u32 {
        self.0
    }

    pub(super) const ROOT: NodeId = NodeId(1);
}

/// Names an ACL in the table of one world. Snapshots use the same number as key, and -1 for `OPEN`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AclId(pub u32);

impl AclId {
    /// world:anyone may do everything.
    pub const OPEN: AclId = AclId(0);
}

/// Data of up to this many bytes lies in the record; more lies in a blob that the record's versions share.
pub(super) const INLINE_BYTES_MAX: usize = 255;

const STAMPED: u16 = 1;
const CHANGED: u16 = 1 << 1;
const PARENT: u16 = 1 << 2;
const OWNER: u16 = 1 << 3;
const ACL: u16 = 1 << 4;
const LONG: u16 = 1 << 5;
const EXTERNAL: u16 = 1 << 6;
const NULL: u16 = 1 << 7;
const TOMBSTONE: u16 = 1 << 8;
const WIDE: u16 = 1 << 9;
/// Flags below, bits of czxid from here on.
const FLAGS_END: u16 = 1 << 10;

/// Bits of czxid and of ctime's distance in their section.
const PACKED_BITS: u32 = 40;
const PACKED_MASK: u64 = (1 << PACKED_BITS) - 1;
/// Bytes of both.
const PACKED_BYTES: usize = 2 * PACKED_BITS as usize / 8;
/// Bits of czxid that a record has room for when it is not WIDE: epochs below 16384 have no more.
const CZXID_BITS: u32 = PACKED_BITS + 6;
/// January 2008, when there was no ZooKeeper of Apache's yet; the distance from here has more bits in November 2042.
const CTIME_FIRST: i64 = 1_200_000_000_000;

const FLAGS_AT: usize = 4;
const NAME_LENGTH_AT: usize = 6;
const DATA_LENGTH_AT: usize = 7;
const STAMP_AT: usize = 8;
const OLDER_AT: usize = STAMP_AT + 8;
const MARK_AT: usize = OLDER_AT + 4;
const DIGEST_AT: usize = MARK_AT + 4;
const STAMP_END: usize = DIGEST_AT + 4;

/// The link to the version that this one replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Views with this limit and later ones see the record.
    pub stamp: u64,
    pub older: Handle,
    /// The writer's epoch when it made the record (low half): equal to the present one, the record may be overwritten.
    pub mark: u32,
    /// What this version adds to the tree's digest: whoever replaces it need not look at its data.
    pub digest: u32,
}

/// Everything of a znode's version but name and data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub parent: NodeId,
    pub stat: StatPersisted,
    pub acl: AclId,
    pub children_root: Handle,
    pub children: u32,
    /// What Apache would keep them in: grown by the most there ever were.
    pub table: Table,
}

/// A version's data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Null,
    Inline(&'a [u8]),
    External(Handle),
}

/// Where the sections of a record with given flags begin.
#[derive(Clone, Copy)]
struct Sections {
    czxid: usize,
    changed: usize,
    parent: usize,
    owner: usize,
    acl: usize,
    long: usize,
    external: usize,
    name: usize,
}

impl Sections {
    #[inline(always)]
    const fn of(flags: u16) -> Sections {
        const fn len(flags: u16, flag: u16, bytes: usize) -> usize {
            if flags & flag != 0 { bytes } else { 0 }
        }
        let czxid = STAMP_AT + len(flags, STAMPED, STAMP_END - STAMP_AT);
        let changed = czxid
            + match flags & (TOMBSTONE | WIDE) {
                0 => PACKED_BYTES,
                WIDE => 16,
                _ => 0,
            };
        let parent = changed + len(flags, CHANGED, 24);
        let owner = parent + len(flags, PARENT, 20);
        let acl = owner + len(flags, OWNER, 8);
        let long = acl + len(flags, ACL, 4);
        let external = long + len(flags, LONG, 4);
        let name = external + len(flags, EXTERNAL, 4);
        Sections { czxid, changed, parent, owner, acl, long, external, name }
    }
}

/// Where the name begins, by flags: what every step up a path asks.
static NAME_AT: [u8; FLAGS_END as usize] = {
    let mut table = [0; FLAGS_END as usize];
    let mut flags = 0;
    while flags < table.len() {
        table[flags] = Sections::of(flags as u16).name as u8;
        flags += 1;
    }
    table
};

/// A record that is complete and cannot be freed during `'a`.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    at: *const u8,
    handle: Handle,
    life: PhantomData<&'a Memory>,
}

impl<'a> Record<'a> {
    /// `handle` comes from the node table or from a newer version's `older`, and the caller holds what keeps it alive.
    #[inline]
    pub(super) fn new(memory: &'a Memory, handle: Handle) -> Record<'a> {
        debug_assert!(!handle.is_none());
        Record { at: memory.at(handle), handle, life: PhantomData }
    }

    #[inline]
    pub(super) fn handle(&self) -> Handle {
        self.handle
    }

    #[inline(always)]
    fn get<T: Copy>(&self, at: usize) -> T {
        // SAFETY: `at` comes from the flags of this record, so the bytes are inside of its block and were written with
        // a T of this kind; they are not written while a reader may look at them (see the essay above).
        unsafe { self.at.add(at).cast::<T>().read_unaligned() }
    }

    #[inline(always)]
    fn flags(&self) -> u16 {
        self.get(FLAGS_AT)
    }

    #[inline]
    pub(super) fn is_tombstone(&self) -> bool {
        self.flags() & TOMBSTONE != 0
    }

    /// Views with this limit and later ones see this version or a newer one.
    #[inline]
    pub(super) fn stamp(&self) -> u64 {
        // The stamp and the czxid of a record without one are at the same place.
        let flags = self.flags();
        if flags & (STAMPED | WIDE) == 0 { self.packed_czxid(flags, STAMP_AT) } else { self.get(STAMP_AT) }
    }

    #[inline(always)]
    fn packed_czxid(&self, flags: u16, at: usize) -> u64 {
        self.get::<u64>(at) & PACKED_MASK | u64::from(flags / FLAGS_END) << PACKED_BITS
    }

    #[inline(always)]
    fn created(&self, flags: u16, at: usize) -> (Zxid, WallMillis) {
        if flags & WIDE != 0 {
            return (Zxid(self.get(at)), WallMillis(self.get(at + 8)));
        }
        // The last eight bytes of the section: none behind it, which may be another block's.
        let distance = self.get::<u64>(at + PACKED_BYTES - 8) >> (64 - PACKED_BITS);
        (Zxid(self.packed_czxid(flags, at)), WallMillis(CTIME_FIRST + distance as i64))
    }

    /// The version this one replaced; `None` for a znode's first one.
    #[inline]
    pub(super) fn older(&self) -> Handle {
        if self.flags() & STAMPED != 0 { Handle(self.get(OLDER_AT)) } else { Handle::NONE }
    }

    /// The writer's epoch mark; `None` for a record without a stamp, which is never overwritten.
    pub(super) fn mark(&self) -> Option<u32> {
        (self.flags() & STAMPED != 0).then(|| self.get(MARK_AT))
    }

    /// What this version adds to the tree's digest; `None` for a record without a stamp.
    pub(super) fn digest(&self) -> Option<u32> {
        (self.flags() & STAMPED != 0).then(|| self.get(DIGEST_AT))
    }

    /// Overwrites the mark, which only the writer looks at: on tombstones it tells how far their removal has come.
    pub(super) fn set_mark(&self, memory: &Memory, mark: u32) {
        assert!(self.flags() & STAMPED != 0);
        Writer { at: memory.at(self.handle) }.put(MARK_AT, mark);
    }

    #[inline]
    pub(super) fn parent(&self) -> NodeId {
        NodeId(self.get(0))
    }

    #[inline(always)]
    fn name_length(&self, flags: u16, sections: &Sections) -> usize {
        if flags & LONG != 0 {
            self.get::<u32>(sections.long) as usize
        } else {
            self.get::<u8>(NAME_LENGTH_AT) as usize
        }
    }

    /// The last component; empty for the root.
    #[inline]
    pub(super) fn name(&self) -> &'a str {
        let flags = self.flags();
        let at = usize::from(NAME_AT[usize::from(flags) % NAME_AT.len()]);
        let length = match flags & LONG {
            0 => self.get::<u8>(NAME_LENGTH_AT) as usize,
            _ => self.name_length(flags, &Sections::of(flags)),
        };
        // SAFETY: the name's bytes are in the block, were copied from a `str`, and are never written again.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(self.at.add(at), length)) }
    }

    #[inline]
    pub(super) fn payload(&self) -> Payload<'a> {
        let flags = self.flags();
        if flags & NULL != 0 {
            return Payload::Null;
        }
        let sections = Sections::of(flags);
        if flags & EXTERNAL != 0 {
            return Payload::External(Handle(self.get(sections.external)));
        }
        let at = sections.name + self.name_length(flags, &sections);
        let length = self.get::<u8>(DATA_LENGTH_AT) as usize;
        // SAFETY: the data's bytes are in the block, and not written while a reader may look (see the essay above); the
        // writer's own references end before it writes, because writing takes the world mutably.
        Payload::Inline(unsafe { std::slice::from_raw_parts(self.at.add(at), length) })
    }

    #[inline]
    pub(super) fn data(&self, memory: &'a Memory) -> Option<&'a [u8]> {
        match self.payload() {
            Payload::Null => None,
            Payload::Inline(bytes) => Some(bytes),
            Payload::External(blob) => Some(Blob::new(memory, blob).bytes()),
        }
    }

    #[inline]
    pub(super) fn data_length(&self, memory: &Memory) -> usize {
        match self.payload() {
            Payload::Null => 0,
            Payload::Inline(bytes) => bytes.len(),
            Payload::External(blob) => Blob::new(memory, blob).bytes().len(),
        }
    }

    #[inline]
    pub(super) fn stat(&self) -> StatPersisted {
        let flags = self.flags();
        let sections = Sections::of(flags);
        let (czxid, ctime) = self.created(flags, sections.czxid);
        let mut stat = StatPersisted::created(czxid, ctime, Owner::Persistent);
        if flags & CHANGED != 0 {
            stat.mzxid = Zxid(self.get(sections.changed));
            stat.mtime = WallMillis(self.get(sections.changed + 8));
            stat.version = self.get(sections.changed + 16);
            stat.aversion = self.get(sections.changed + 20);
        }
        if flags & PARENT != 0 {
            stat.pzxid = Zxid(self.get(sections.parent));
            stat.cversion = self.get(sections.parent + 8);
        }
        if flags & OWNER != 0 {
            stat.owner = Owner::from_stored(self.get(sections.owner));
        }
        stat
    }

    #[inline]
    pub(super) fn owner(&self) -> Owner {
        let flags = self.flags();
        if flags & OWNER == 0 {
            return Owner::Persistent;
        }
        Owner::from_stored(self.get(Sections::of(flags).owner))
    }

    #[inline]
    pub(super) fn acl(&self) -> AclId {
        let flags = self.flags();
        if flags & ACL == 0 { AclId::OPEN } else { AclId(self.get(Sections::of(flags).acl)) }
    }

    /// The root of the set of children, and how many they are.
    #[inline]
    pub(super) fn children(&self) -> (Handle, u32) {
        let flags = self.flags();
        if flags & PARENT == 0 {
            return (Handle::NONE, 0);
        }
        let at = Sections::of(flags).parent + 12;
        (Handle(self.get(at)), unpacked_count(self.get(at + 4)).0)
    }

    pub(super) fn czxid(&self) -> Zxid {
        let flags = self.flags();
        self.created(flags, Sections::of(flags).czxid).0
    }

    /// What Apache would keep the children in.
    pub(super) fn table(&self) -> Table {
        let flags = self.flags();
        match flags & PARENT {
            0 => Table::CHILDREN,
            _ => unpacked_count(self.get(Sections::of(flags).parent + 16)).1,
        }
    }

    /// Fetches what lies behind the first two cache lines, when those have been fetched. Looks at the header only, which
    /// may be read of any version.
    #[inline]
    pub(super) fn prefetch_rest(&self) {
        let name = usize::from(NAME_AT[usize::from(self.flags()) % NAME_AT.len()]);
        let (name_length, data_length): (u8, u8) = (self.get(NAME_LENGTH_AT), self.get(DATA_LENGTH_AT));
        let end = name + usize::from(name_length) + usize::from(data_length);
        let behind = 2 * CACHE_LINE_BYTES - self.at as usize % CACHE_LINE_BYTES;
        for at in (behind..end).step_by(CACHE_LINE_BYTES) {
            prefetch(self.at.wrapping_add(at));
        }
    }

    pub(super) fn fields(&self) -> Fields {
        let (children_root, children) = self.children();
        Fields {
            parent: self.parent(),
            stat: self.stat(),
            acl: self.acl(),
            children_root,
            children,
            table: self.table(),
        }
    }

    /// Bytes of the block, as they were asked for.
    pub(super) fn bytes(&self) -> usize {
        let flags = self.flags();
        let sections = Sections::of(flags);
        sections.name + self.name_length(flags, &sections) + self.get::<u8>(DATA_LENGTH_AT) as usize
    }
}

/// A record about to be written: what it needs is known before its block is.
pub(super) struct Draft<'a> {
    fields: &'a Fields,
    name: &'a str,
    payload: Payload<'a>,
    flags: u16,
}

impl<'a> Draft<'a> {
    /// A version that replaces nothing; Views with a limit from its czxid on see it.
    pub(super) fn first(fields: &'a Fields, name: &'a str, payload: Payload<'a>) -> Draft<'a> {
        Draft { fields, name, payload, flags: flags_of(fields, name, payload) }
    }

    /// A version with a stamp of its own.
    pub(super) fn stamped(fields: &'a Fields, name: &'a str, payload: Payload<'a>) -> Draft<'a> {
        Draft { fields, name, payload, flags: flags_of(fields, name, payload) | STAMPED }
    }

    /// Marks the znode as deleted; of `fields` only the parent is kept.
    pub(super) fn tombstone(fields: &'a Fields, name: &'a str) -> Draft<'a> {
        let flags = flags_of(fields, name, Payload::Null) & LONG | STAMPED | TOMBSTONE | NULL;
        Draft { fields, name, payload: Payload::Null, flags }
    }

    fn inline_length(&self) -> usize {
        if let Payload::Inline(bytes) = self.payload { bytes.len() } else { 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        Sections::of(self.flags).name + self.name.len() + self.inline_length()
    }

    /// Fills a block of `bytes()` that no reader knows yet. `stamp` is given exactly for drafts that want one.
    pub(super) fn write(&self, memory: &Memory, handle: Handle, stamp: Option<Stamp>) {
        assert_eq!(stamp.is_some(), self.flags & STAMPED != 0);
        let out = Writer { at: memory.at(handle) };
        let sections = Sections::of(self.flags);
        out.put(0, self.fields.parent.0);
        out.put(FLAGS_AT, self.flags);
        out.put(NAME_LENGTH_AT, if self.flags & LONG != 0 { 0 } else { self.name.len() as u8 });
        out.put(DATA_LENGTH_AT, self.inline_length() as u8);
        if let Some(stamp) = stamp {
            out.put(STAMP_AT, stamp.stamp);
            out.put(OLDER_AT, stamp.older.0);
            out.put(MARK_AT, stamp.mark);
            out.put(DIGEST_AT, stamp.digest);
        }
        if self.flags & LONG != 0 {
            out.put(sections.long, self.name.len() as u32);
        }
        out.copy(sections.name, self.name.as_bytes());
        self.write_sections(&out, &sections);
    }

    /// Whether the record has this draft's very layout, so that `overwrite` can bring it up to date.
    pub(super) fn fits(&self, record: &Record<'_>) -> bool {
        record.flags() == self.flags && record.get::<u8>(DATA_LENGTH_AT) as usize == self.inline_length()
    }

    /// Edits a record that `fits` and that no View can see: everything but header, stamp and name.
    pub(super) fn overwrite(&self, memory: &Memory, handle: Handle, digest: u32) {
        assert!(self.fits(&Record::new(memory, handle)));
        let out = Writer { at: memory.at(handle) };
        if self.flags & STAMPED != 0 {
            out.put(DIGEST_AT, digest);
        }
        self.write_sections(&out, &Sections::of(self.flags));
    }

    fn write_sections(&self, out: &Writer, sections: &Sections) {
        if self.flags & TOMBSTONE != 0 {
            return;
        }
        let stat = &self.fields.stat;
        match packed(stat) {
            Some(packed) => {
                out.put(sections.czxid, packed as u64);
                out.put(sections.czxid + 8, (packed >> 64) as u16);
            }
            None => {
                out.put(sections.czxid, stat.czxid.0);
                out.put(sections.czxid + 8, stat.ctime.0);
            }
        }
        if self.flags & CHANGED != 0 {
            out.put(sections.changed, stat.mzxid.0);
            out.put(sections.changed + 8, stat.mtime.0);
            out.put(sections.changed + 16, stat.version);
            out.put(sections.changed + 20, stat.aversion);
        }
        if self.flags & PARENT != 0 {
            out.put(sections.parent, stat.pzxid.0);
            out.put(sections.parent + 8, stat.cversion);
            out.put(sections.parent + 12, self.fields.children_root.0);
            out.put(sections.parent + 16, packed_count(self.fields.children, self.fields.table));
        }
        if self.flags & OWNER != 0 {
            out.put(sections.owner, stat.owner.to_stored());
        }
        if self.flags & ACL != 0 {
            out.put(sections.acl, self.fields.acl.0);
        }
        match self.payload {
            Payload::Null => {}
            Payload::Inline(bytes) => {
                let at = sections.name + self.name.len();
                // Data that stays is its own source.
                if !out.is_at(at, bytes) {
                    out.copy(at, bytes);
                }
            }
            Payload::External(blob) => out.put(sections.external, blob.0),
        }
    }
}

/// Bits of a count beside which there is room for the table's size.
const COUNT_BITS: u32 = 26;
/// Marks a larger count, which stands alone.
const LARGE_COUNT: u32 = 1 << 31;

/// The count of children and the size of their table in one word. A count of more than 64 M tells the size by itself.
#[inline]
fn packed_count(children: u32, table: Table) -> u32 {
    match children >> COUNT_BITS {
        0 => u32::from(table.0 - Table::CHILDREN.0) << COUNT_BITS | children,
        _ => LARGE_COUNT | children,
    }
}

#[inline]
fn unpacked_count(word: u32) -> (u32, Table) {
    if word & LARGE_COUNT != 0 {
        let children = word & !LARGE_COUNT;
        return (children, Table::CHILDREN.grown(children as usize));
    }
    (word & ((1 << COUNT_BITS) - 1), Table(Table::CHILDREN.0 + (word >> COUNT_BITS) as u8))
}

/// The section of czxid and ctime; `None` when the two want a WIDE one.
#[inline]
fn packed(stat: &StatPersisted) -> Option<u128> {
    let distance = stat.ctime.0.wrapping_sub(CTIME_FIRST) as u64;
    let fits = stat.czxid.0 >> CZXID_BITS == 0 && distance >> PACKED_BITS == 0;
    fits.then(|| u128::from(distance) << PACKED_BITS | u128::from(stat.czxid.0 & PACKED_MASK))
}

fn flags_of(fields: &Fields, name: &str, payload: Payload<'_>) -> u16 {
    let stat = &fields.stat;
    let fresh =
        stat.mzxid == stat.czxid && stat.mtime == stat.ctime && stat.version == 0 && stat.aversion == 0;
    let childless = stat.pzxid == stat.czxid && stat.cversion == 0 && fields.children == 0;
    let when = |wanted: bool, flag: u16| if wanted { flag } else { 0 };
    let created =
        if packed(stat).is_some() { (stat.czxid.0 >> PACKED_BITS) as u16 * FLAGS_END } else { WIDE };
    created
        | when(!fresh, CHANGED)
        | when(!childless, PARENT)
        | when(stat.owner != Owner::Persistent, OWNER)
        | when(fields.acl != AclId::OPEN, ACL)
        | when(name.len() > u8::MAX as usize, LONG)
        | match payload {
            Payload::Null => NULL,
            Payload::Inline(bytes) => {
                assert!(bytes.len() <= INLINE_BYTES_MAX);
                0
            }
            Payload::External(_) => EXTERNAL,
        }
}

struct Writer {
    at: *mut u8,
}

impl Writer {
    #[inline(always)]
    fn put<T: Copy>(&self, at: usize, value: T) {
        // SAFETY: `at` comes from the draft's sections and the block has the draft's size; readers do not look at these
        // bytes now (see the essay above).
        unsafe { self.at.add(at).cast::<T>().write_unaligned(value) };
    }

    fn is_at(&self, at: usize, bytes: &[u8]) -> bool {
        std::ptr::eq(self.at.wrapping_add(at), bytes.as_ptr())
    }

    fn copy(&self, at: usize, bytes: &[u8]) {
        // SAFETY: as in `put`; the source is another block's, or the caller's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.add(at), bytes.len()) };
    }
}

/// Data too large for a record: length 4, CRC-32 over path and data 4, the bytes. Never edited.
pub(super) struct Blob<'a> {
    at: *const u8,
    life: PhantomData<&'a Memory>,
}

const BLOB_HEADER_BYTES: usize = 8;

impl<'a> Blob<'a> {
    #[inline]
    pub(super) fn new(memory: &'a Memory, handle: Handle) -> Blob<'a> {
        debug_assert!(!handle.is_none());
        Blob { at: memory.at(handle), life: PhantomData }
    }

    pub(super) fn bytes_for(data: &[u8]) -> usize {
        BLOB_HEADER_BYTES + data.len()
    }

    pub(super) fn write(memory: &Memory, handle: Handle, data: &[u8], crc: u32) {
        let out = Writer { at: memory.at(handle) };
        out.put(0, u32::try_from(data.len()).expect("a request's data is shorter than 4 GiB"));
        out.put(4, crc);
        out.copy(BLOB_HEADER_BYTES, data);
    }

    #[inline]
    pub(super) fn bytes(&self) -> &'a [u8] {
        // SAFETY: a blob is written before its handle gets into a record, never edited, and freed after the last record
        // that names it has been out of every View's sight.
        unsafe {
            let length = self.at.cast::<u32>().read() as usize;
            std::slice::from_raw_parts(self.at.add(BLOB_HEADER_BYTES), length)
        }
    }

    /// The state of the digest's CRC-32 behind the znode's path and this data.
    pub(super) fn crc(&self) -> u32 {
        // SAFETY: as in `bytes`; blocks are aligned to 8 bytes.
        unsafe { self.at.add(4).cast::<u32>().read() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Allocator;
    use super::*;
    use crate::model::SessionId;

    fn check(fields: Fields, name: &str, data: Option<&[u8]>, stamp: Option<Stamp>, bytes: usize) {
        let memory = Memory::new();
        let mut blocks = Allocator::new(&memory);
        let payload = data.map_or(Payload::Null, Payload::Inline);
        let draft = match stamp {
            Some(_) => Draft::stamped(&fields, name, payload),
            None => Draft::first(&fields, name, payload),
        };
        let handle = blocks.alloc(&memory, draft.bytes());
        draft.write(&memory, handle, stamp);
        let record = Record::new(&memory, handle);
        assert_eq!(record.stat(), fields.stat);
        assert_eq!((record.name(), record.data(&memory), record.parent()), (name, data, fields.parent));
        assert_eq!((record.acl(), record.owner()), (fields.acl, fields.stat.owner));
        assert_eq!(record.children(), (fields.children_root, fields.children));
        assert_eq!(record.table(), fields.table);
        assert_eq!(record.stamp(), stamp.map_or(fields.stat.czxid.0, |s| s.stamp));
        assert_eq!(record.older(), stamp.map_or(Handle::NONE, |s| s.older));
        assert_eq!((record.mark(), record.digest()), (stamp.map(|s| s.mark), stamp.map(|s| s.digest)));
        assert_eq!((record.bytes(), draft.bytes()), (bytes, bytes));
    }

    fn fresh() -> Fields {
        let stat = StatPersisted::created(Zxid(77), WallMillis(1_700_000_000_000), Owner::Persistent);
        let (children_root, table) = (Handle::NONE, Table::CHILDREN);
        Fields { parent: NodeId(9), stat, acl: AclId::OPEN, children_root, children: 0, table }
    }

    #[test]
    fn every_section_reads_back() {
        check(fresh(), "a-component-of-24-bytes!", Some(&[7; 46]), None, 88);
        check(fresh(), "", None, None, 18);
        check(fresh(), &"n".repeat(255), Some(&[]), None, 18 + 255);
        check(fresh(), &"n".repeat(256), Some(&[1; 255]), None, 18 + 4 + 256 + 255);
        let stamp = Stamp { stamp: 80, older: Handle(5), mark: 3, digest: u32::MAX };
        check(fresh(), "x", Some(b"abc"), Some(stamp), 18 + 20 + 4);
        check(fresh(), "", None, Some(stamp), 18 + 20);
        let mut all = fresh();
        all.acl = AclId(4);
        all.children_root = Handle(1000);
        all.children = 3;
        all.table = Table(7);
        all.stat.owner = Owner::Ephemeral(SessionId(0x1234));
        all.stat.mzxid = Zxid(79);
        all.stat.mtime = WallMillis(5);
        all.stat.version = -1;
        all.stat.aversion = i32::MIN;
        all.stat.pzxid = Zxid(78);
        all.stat.cversion = 8;
        check(all, "x", Some(b"abc"), Some(stamp), 18 + 20 + 24 + 20 + 8 + 4 + 4);
    }

    #[test]
    fn any_count_of_children_reads_back() {
        for children in [0, 1, 6, 7, (1 << COUNT_BITS) - 1, 1 << COUNT_BITS, u32::MAX >> 1] {
            let table = Table::CHILDREN.grown(children as usize);
            assert_eq!(unpacked_count(packed_count(children, table)), (children, table));
        }
        assert_eq!(unpacked_count(packed_count(2, Table(33))), (2, Table(33)));
    }

    #[test]
    fn any_czxid_and_ctime_read_back() {
        let far = CTIME_FIRST + (1 << PACKED_BITS);
        let times = [i64::MIN, -1, 0, 1, CTIME_FIRST - 1, CTIME_FIRST, far - 1, far, i64::MAX];
        let wide_from = 1 << CZXID_BITS;
        let zxids = [0, 1, 77, u32::MAX.into(), 1 << 32, PACKED_MASK, PACKED_MASK + 1, 0x1234_5678_9abc];
        let zxids = zxids.into_iter().chain([wide_from - 1, wide_from, 1 << 63, u64::MAX - 1, u64::MAX]);
        // Epoch 2^32 - 1 is of the last three.
        for (czxid, ctime) in zxids.flat_map(|zxid| times.map(|time| (zxid, time))) {
            let is_wide = czxid >= wide_from || !(CTIME_FIRST..far).contains(&ctime);
            let bytes = if is_wide { 24 } else { 18 };
            let mut fields = fresh();
            fields.stat = StatPersisted::created(Zxid(czxid), WallMillis(ctime), Owner::Persistent);
            check(fields, "", None, None, bytes);
            check(fields, "name", Some(b"data"), None, bytes + 8);
            let stamp = Stamp { stamp: u64::MAX - 1, older: Handle(5), mark: 3, digest: 1 };
            check(fields, "", None, Some(stamp), bytes + 20);
            fields.stat.mzxid = Zxid(!czxid);
            fields.stat.mtime = WallMillis(!ctime);
            fields.stat.pzxid = Zxid(u64::MAX);
            fields.stat.cversion = 1;
            check(fields, "name", Some(b"data"), Some(stamp), bytes + 20 + 24 + 20 + 8);
        }
    }

    #[test]
    fn a_tombstone_keeps_parent_and_name() {
        let memory = Memory::new();
        let mut blocks = Allocator::new(&memory);
        let long = "long".repeat(100);
        for (name, czxid, bytes) in [("gone", 77, 32), (&long, 77, 432), ("gone", u64::MAX, 32)] {
            let mut fields = fresh();
            fields.stat.czxid = Zxid(czxid);
            let draft = Draft::tombstone(&fields, name);
            let handle = blocks.alloc(&memory, draft.bytes());
            draft.write(&memory, handle, Some(Stamp { stamp: 81, older: Handle(6), mark: 4, digest: 0 }));
            let record = Record::new(&memory, handle);
            assert!(record.is_tombstone());
            assert_eq!((record.name(), record.parent(), record.stamp()), (name, NodeId(9), 81));
            assert_eq!((record.older(), record.bytes(), draft.bytes()), (Handle(6), bytes, bytes));
        }
    }

    #[test]
    fn overwriting_keeps_header_and_stamp() {
        let memory = Memory::new();
        let mut blocks = Allocator::new(&memory);
        let mut fields = fresh();
        fields.stat.mzxid = Zxid(90);
        let draft = Draft::stamped(&fields, "x", Payload::Inline(b"old"));
        let handle = blocks.alloc(&memory, draft.bytes());
        draft.write(&memory, handle, Some(Stamp { stamp: 90, older: Handle(6), mark: 4, digest: 70 }));
        fields.stat.mzxid = Zxid(91);
        fields.stat.version = 2;
        let record = Record::new(&memory, handle);
        let next = Draft::stamped(&fields, "x", Payload::Inline(b"new"));
        assert!(next.fits(&record));
        next.overwrite(&memory, handle, 71);
        assert_eq!(
            (record.stat(), record.data(&memory), record.stamp(), record.digest()),
            (fields.stat, Some(&b"new"[..]), 90, Some(71))
        );
        assert!(!Draft::stamped(&fields, "x", Payload::Inline(b"longer")).fits(&record));
        assert!(!Draft::stamped(&fields, "x", Payload::Null).fits(&record));
    }
}
