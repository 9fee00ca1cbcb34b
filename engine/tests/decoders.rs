//! Every decoder on bytes from nowhere: none panics, and none takes more memory than a constant times its input.
//! The seed is printed first; `OSTLER_SEED=… cargo test -p ostler-engine --test decoders` replays it.
//! `engine/fuzz` does the same with coverage.

use ostler_engine::model::acl::{self, AclEntry};
use ostler_engine::model::quota::QuotaText;
use ostler_engine::model::{Schemes, path};
use ostler_engine::snapshot::Image;
use ostler_engine::snapshot::wire::{self, Ended};
use ostler_engine::wire::frame::{Foreign, Front, front};
use ostler_engine::wire::reply::ReplyHeader;
use ostler_engine::wire::request::AclField;
use ostler_engine::wire::{
    AclBytes, ConnectRequest, ConnectResponse, OpCode, Reader, Request, RequestHeader, TxnEntry,
};
use ostler_replication::packet::{self, Side};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// Counts what one thread holds, so that tests in parallel do not disturb each other.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(grown: usize, shrunk: usize) {
    // Not there any more while a thread ends: nothing to count then.
    let _ = HELD.try_with(|held| {
        held.set((held.get() + grown).saturating_sub(shrunk));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: hands every request to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes a decoder may hold per byte of input: a multi of the smallest sub-txns is the worst, each 8 bytes on the wire.
const BYTES_PER_BYTE: usize = 64;
/// ... and for inputs so small that the first growth of a vector counts.
const BYTES_FREE: usize = 4096;

fn check(name: &str, input: &[u8], decode: impl FnOnce(&[u8])) {
    let before = HELD.get();
    PEAK.set(before);
    decode(input);
    let taken = PEAK.get() - before;
    let most = BYTES_FREE + BYTES_PER_BYTE * input.len();
    assert!(taken <= most, "{name} took {taken} bytes for {}: {input:02x?}", input.len());
}

fn all_decoders(input: &[u8]) {
    check("frame", input, |input| {
        let mut rest = input;
        while let Front::Frame { bytes, .. } = front(rest, 1 << 20) {
            rest = &rest[bytes..];
        }
        input.first_chunk().copied().map(Foreign::recognise);
    });
    check("connect request", input, |input| drop(ConnectRequest::decode(input)));
    check("connect response", input, |input| drop(ConnectResponse::decode(input)));
    check("request header", input, |input| {
        assert!(RequestHeader::decode(input).is_ok() == (input.len() >= 8))
    });
    check("reply header", input, |input| assert!(ReplyHeader::decode(input).is_ok() == (input.len() >= 16)));
    check("stat", input, |input| assert!(Reader::new(input).stat().is_ok() == (input.len() >= 68)));
    for op in OpCode::ALL {
        check("request", input, |input| drop(Request::decode(op, input)));
    }
    check("txn entry", input, |input| drop(TxnEntry::decode(input)));
    check("acl bytes", input, |input| {
        let _ = AclBytes::read(&mut Reader::new(input)).map(|acl| acl.decode());
    });
    check("acl of a request", input, |input| {
        let entries = AclField::read(&mut Reader::new(input)).ok().and_then(|field| field.entries());
        let entries: Option<&[AclEntry<'_>]> = entries.as_deref();
        let _ = acl::fix_up(entries, &[], &Schemes::default(), input.len());
    });
    check("quota text", input, |input| {
        QuotaText::parse_usage(input).charge(1, -1);
        let _ = QuotaText::parse_limits(input).to_string();
    });
    check("snapshot stream", input, |input| {
        let mut all = Some(input);
        let mut next = |held: &mut Vec<u8>| {
            held.extend_from_slice(all.take().ok_or(Ended)?);
            Ok(())
        };
        let _ = wire::restore(1 << 20, &mut next, &mut Image::default());
    });
    check("handshake", input, |input| drop(packet::handshake::decode(input)));
    check("notification", input, |input| drop(packet::notification::decode(input)));
    for side in [Side::Learner, Side::Leader] {
        check("quorum packet", input, |input| drop(packet::quorum::decode(input, side, 1 << 20)));
    }
    check("path", input, |input| {
        let text = String::from_utf8_lossy(input);
        let _ = (path::validate(&text), path::validate_delete(&text), path::split(&text));
    });
}

/// xorshift: all that is wanted of randomness here.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Bytes that look like jute: small numbers, lengths that fit and that do not, types, text, noise.
    fn input(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.next() % 24 {
            let number = match self.next() % 6 {
                0 => -1,
                1 => i32::MAX,
                2 => self.next() as i32,
                3 => OpCode::ALL[self.next() as usize % OpCode::ALL.len()].to_i32(),
                _ => (self.next() % 8) as i32,
            };
            match self.next() % 4 {
                0 => out.push(self.next() as u8),
                1 => out.extend_from_slice(b"/a=1,"),
                _ => out.extend_from_slice(&number.to_be_bytes()),
            }
        }
        out
    }
}

fn seed() -> u64 {
    let chosen = std::env::var("OSTLER_SEED").ok().and_then(|text| text.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let seed = chosen.unwrap_or(now).max(1);
    println!("seed={seed}");
    seed
}

#[test]
fn bytes_from_nowhere() {
    let mut random = Random(seed());
    for _ in 0..20_000 {
        all_decoders(&random.input());
    }
}

/// A header that a txn decoder follows, then anything.
#[test]
fn txns_from_nowhere() {
    let mut random = Random(seed());
    let kinds = [-11, -10, -1, 1, 2, 5, 7, 14, 15, 16, 19, 20, 21];
    for _ in 0..20_000 {
        let mut input = vec![0; 28];
        input.extend_from_slice(&i32::to_be_bytes(kinds[random.next() as usize % kinds.len()]));
        input.extend_from_slice(&random.input());
        check("txn entry", &input, |input| {
            if let Ok((entry, consumed)) = TxnEntry::decode(input) {
                assert!(consumed <= input.len());
                entry.encode(&mut Vec::with_capacity(2 * input.len()));
            }
        });
    }
}

/// What costs most memory for its bytes, at the length of a whole frame.
#[test]
fn the_worst_inputs_of_a_frame() {
    const FRAME: usize = 1 << 20;
    let fill = |unit: &[u8], count: i32, head: &[u8]| {
        let mut out = [head, &count.to_be_bytes()].concat();
        out.extend(unit.iter().cycle().take(FRAME));
        out
    };
    let empty_strings = fill(&[0; 4], i32::MAX, &[0; 8]);
    check("setWatches", &empty_strings, |input| drop(Request::decode(OpCode::SetWatches, input)));
    let empty_acls = fill(&[0; 12], FRAME as i32 / 12, &[0; 8]);
    check("create", &empty_acls, |input| match Request::decode(OpCode::Create, input) {
        Ok(Request::Create(request)) => drop(request.acl.entries()),
        other => panic!("this decodes: {other:?}"),
    });
    let check_op = [&13i32.to_be_bytes()[..], &[0; 5], &[0; 8]].concat();
    let checks: Vec<u8> = check_op.iter().copied().cycle().take(FRAME).collect();
    check("multi", &checks, |input| drop(Request::decode(OpCode::Multi, input)));
    let failed_sub = [&[0xff; 4][..], &[0; 4]].concat();
    let mut header = vec![0; 28];
    header.extend_from_slice(&14i32.to_be_bytes());
    let failed = fill(&failed_sub, FRAME as i32 / 8, &header);
    check("txn entry", &failed, |input| drop(TxnEntry::decode(input)));
    let noise = vec![0xff; FRAME];
    all_decoders(&noise);
}
