//! Snapshots between servers, as they follow a SNAP packet: the body of a file, then `BenWasHere`; no seals, for TCP and the
//! learner's own file have theirs. What is received becomes a world and a file of the same bytes, both beside those in
//! use, which a broken stream leaves as they are.
//! Not here: sockets, threads, which View is sent (peers), making the result the world (core, log).
//!
//! While a snapshot is received there are two trees in memory, the old one and the one that comes: a learner that falls
//! back to SNAP needs room for both. `ostler.treeMemory` bounds each of them, not their sum.

use super::decode::{self, Body, Failure, Pieces, Straight};
use super::encode;
use super::writer::PORTION_BYTES;
use super::{Restore, SnapshotSource, names};
use crate::io::disk::{Disk, DiskFile, Open};
use crate::world::{Head, Restorer};
use ostler_replication::Zxid;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Writes `source` as such a stream, in pieces that are not much larger than a quarter of a mebibyte unless a znode is,
/// until the sink fails. How many znodes.
pub fn send<E>(source: &dyn SnapshotSource, sink: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<u64, E> {
    encode::encode_stream(source, sink).map(|counts| counts.nodes)
}

/// Where a stream's bytes come from: puts the next ones, at least one, behind what is there. An error: no more come.
pub type Receive<'a> = dyn FnMut(&mut Vec<u8>) -> Result<(), Ended> + 'a;

/// The connection is gone, or nobody wants the snapshot any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended;

/// A snapshot that was received whole, next to what the server has.
pub struct Staged {
    pub zxid: Zxid,
    /// The world in it, as after a restore: closed to readers until it is the server's.
    pub head: Head,
    /// The file: on stable storage, under a name that no server reads. Giving it its own, durably, is what is left.
    pub partial: PathBuf,
    pub name: PathBuf,
    pub znodes: u64,
    pub file_bytes: u64,
}

impl Staged {
    /// Nobody wants it any more.
    pub fn discard(self, disk: &dyn Disk) {
        // Best effort: what cannot be removed now is removed at the next start.
        let _ = disk.unlink(&self.partial);
    }
}

/// Why a stream did not become a snapshot. Nothing is left of it.
#[derive(Debug)]
pub enum StreamError {
    Ended {
        received_bytes: u64,
    },
    /// The offset counts as in a file, whose header takes 16 bytes.
    Damaged {
        offset_bytes: u64,
        what: String,
    },
    Disk {
        path: PathBuf,
        source: io::Error,
    },
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Ended { received_bytes } => {
                write!(f, "the snapshot broke off after {received_bytes} bytes")
            }
            StreamError::Damaged { offset_bytes, what } => {
                write!(f, "the snapshot is damaged at offset {offset_bytes} (as in a file): {what}")
            }
            StreamError::Disk { path, source } => {
                write!(f, "the snapshot cannot be written to {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for StreamError {}

/// Where a received snapshot goes.
pub struct Stage<'a> {
    pub disk: &'a dyn Disk,
    /// A `version-2`.
    pub dir: &'a Path,
    /// What the SNAP packet said: the content is that of this zxid, or of a later one if the sender is Apache's.
    pub zxid: Zxid,
    /// Tells apart what is received by one process.
    pub number: u64,
    /// Largest path, ACL and znode data accepted, in bytes.
    pub field_bytes_max: usize,
    /// Whether the digest that the world has in the end means anything.
    pub digests: bool,
}

/// Reads a stream to its end. With what it brought come the bytes that were received behind it.
pub fn receive(
    stage: &Stage<'_>,
    restorer: Restorer,
    from: &mut Receive<'_>,
) -> Result<(Staged, Vec<u8>), StreamError> {
    let partial = stage.dir.join(names::received_name(stage.zxid, stage.number));
    let received = receive_into(stage, &partial, restorer, from);
    if received.is_err() {
        let _ = stage.disk.unlink(&partial);
    }
    received
}

fn receive_into(
    stage: &Stage<'_>,
    partial: &Path,
    mut restorer: Restorer,
    from: &mut Receive<'_>,
) -> Result<(Staged, Vec<u8>), StreamError> {
    let disk_error = |source| StreamError::Disk { path: partial.to_owned(), source };
    let file = stage.disk.open(partial, Open::Create).map_err(disk_error)?;
    let mut file = Portions { file, pending: encode::header().to_vec(), file_bytes: 0 };
    restorer.gather();
    let Body { contents, checks, rest } =
        read(stage.field_bytes_max, from, &mut restorer, &mut |bytes| file.put(bytes)).map_err(
            |failure| match failure {
                Read::Stream(error) => error,
                Read::Copy(error) => disk_error(error),
            },
        )?;
    let damaged = |what| StreamError::Damaged { offset_bytes: contents.plain_bytes, what };
    Restore::complete(&mut restorer)
        .map_err(|(before, why)| damaged(format!("the znode behind {before} others: {why}")))?;
    let head = restorer.finish().map_err(|error| damaged(error.to_string()))?;
    let digest = stage.digests.then(|| head.digest());
    encode::encode_envelope(checks, stage.zxid, digest, &mut |bytes| file.put(bytes))
        .and_then(|()| file.portion())
        .map_err(disk_error)?;
    let staged = Staged {
        zxid: stage.zxid,
        head,
        partial: partial.to_owned(),
        name: stage.dir.join(names::snapshot_name(stage.zxid, super::Compression::Plain)),
        znodes: contents.nodes,
        file_bytes: file.file_bytes,
    };
    Ok((staged, rest))
}

/// Reads a stream into any state. The bytes behind it come back.
pub fn restore(
    field_bytes_max: usize,
    from: &mut Receive<'_>,
    into: &mut dyn Restore,
) -> Result<(decode::Contents, Vec<u8>), StreamError> {
    match read(field_bytes_max, from, into, &mut |_| Ok(())) {
        Ok(body) => Ok((body.contents, body.rest)),
        Err(Read::Stream(error)) => Err(error),
        Err(Read::Copy(_)) => unreachable!("nothing is copied"),
    }
}

enum Read {
    Stream(StreamError),
    Copy(io::Error),
}

fn read(
    field_bytes_max: usize,
    from: &mut Receive<'_>,
    into: &mut dyn Restore,
    copy: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Body, Read> {
    let mut pieces = Received { from, bytes: 0, ended: false };
    let read = decode::decode_stream(&mut pieces, field_bytes_max, &mut Straight(into), copy);
    read.map_err(|failure| match failure {
        Failure::Io(_) if pieces.ended => Read::Stream(StreamError::Ended { received_bytes: pieces.bytes }),
        Failure::Io(error) => Read::Copy(error),
        Failure::Damaged { offset_bytes, what } => Read::Stream(StreamError::Damaged { offset_bytes, what }),
        Failure::GivenUp => unreachable!("a state that is filled directly does not give up"),
    })
}

struct Received<'a, 'b> {
    from: &'a mut Receive<'b>,
    bytes: u64,
    ended: bool,
}

impl Pieces for Received<'_, '_> {
    fn append(&mut self, held: &mut Vec<u8>) -> io::Result<bool> {
        let before = held.len();
        match (self.from)(held) {
            Ok(()) => {
                self.bytes += (held.len() - before) as u64;
                Ok(true)
            }
            Err(Ended) => {
                self.ended = true;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

/// A file that is synced portion by portion, so that a sync of the log never waits behind more.
struct Portions {
    file: Box<dyn DiskFile>,
    pending: Vec<u8>,
    file_bytes: u64,
}

impl Portions {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        for slice in bytes.chunks(PORTION_BYTES / 4) {
            self.pending.extend_from_slice(slice);
            if self.pending.len() >= PORTION_BYTES / 2 {
                self.portion()?;
            }
        }
        Ok(())
    }

    fn portion(&mut self) -> io::Result<()> {
        self.file.write_at(&self.pending, self.file_bytes)?;
        self.file.sync_data()?;
        self.file_bytes += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::RealDisk;
    use crate::snapshot::{Image, ImageNode, ReadOptions, reader, writer};
    use crate::world::Settings;
    use proptest::prelude::*;

    const SETTINGS: Settings = Settings { hash_seed: [3, 4], digests: true };
    const FIELD_BYTES_MAX: usize = 1 << 20;
    /// Header, and behind the body: three seals, digest, last zxid.
    const BEFORE: usize = 16;
    const BEHIND: usize = 13 + 20 + 13 + 8 + 13;

    fn image() -> Image {
        let mut image = Image { zxid: Zxid(0x1_0000_0007), ..Image::initial() };
        image.sessions = vec![(crate::model::SessionId(0x100_0000_0000_0001), 30_000)];
        let stat = image.nodes[0].stat;
        for n in 0..700 {
            let data = vec![n as u8; n % 90];
            let path = format!("/z{n}").into();
            image.nodes.push(ImageNode { path, data: Some(data.into()), acl: 1, stat });
            image.nodes.push(ImageNode { path: format!("/z{n}/ä").into(), data: None, acl: -1, stat });
        }
        image
    }

    fn stream(source: &dyn SnapshotSource) -> Vec<u8> {
        let mut bytes = Vec::new();
        let sent = send(source, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), ()>(())
        });
        sent.unwrap();
        bytes
    }

    /// In pieces of this size, then the end.
    fn pieces(bytes: &[u8], size: usize) -> impl FnMut(&mut Vec<u8>) -> Result<(), Ended> + '_ {
        let mut pieces = bytes.chunks(size);
        move |held| {
            held.extend_from_slice(pieces.next().ok_or(Ended)?);
            Ok(())
        }
    }

    fn receive_in(dir: &Path, bytes: &[u8], size: usize) -> Result<(Staged, Vec<u8>), StreamError> {
        let stage = Stage {
            disk: &RealDisk,
            dir,
            zxid: Zxid(0x1_0000_0007),
            number: 9,
            field_bytes_max: FIELD_BYTES_MAX,
            digests: true,
        };
        receive(&stage, Restorer::new(SETTINGS, stage.zxid), &mut pieces(bytes, size))
    }

    fn files(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_stream_is_a_files_body_and_a_word() {
        let mut file = Vec::new();
        let image = image();
        writer::stream(&image, &mut |piece| {
            file.extend_from_slice(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
        let body = &file[BEFORE..file.len() - BEHIND];
        assert!(stream(&image) == [body, b"\0\0\0\x0aBenWasHere"].concat());
    }

    #[test]
    fn what_comes_in_pieces_becomes_a_world_and_a_file_and_the_rest_goes_back() {
        let image = image();
        let sent = stream(&image);
        for size in [1, 13, 4096, usize::MAX] {
            let dir = tempfile::tempdir().unwrap();
            let (staged, rest) =
                receive_in(dir.path(), &[&sent[..], b"the next packets"].concat(), size).unwrap();
            assert!(b"the next packets".starts_with(&rest), "{rest:?}");
            assert!(size < usize::MAX || rest == b"the next packets");
            assert_eq!(staged.znodes, image.nodes.len() as u64);
            assert_eq!(staged.head.zxid(), image.zxid);
            assert_eq!(files(dir.path()), ["partial-snapshot.100000007.received-9"]);

            // The file is one of ours like any other, of the very bytes that came.
            let bytes = std::fs::read(&staged.partial).unwrap();
            assert_eq!(bytes.len() as u64, staged.file_bytes);
            assert!(bytes[BEFORE..].starts_with(&sent[..sent.len() - 14]));
            std::fs::rename(&staged.partial, &staged.name).unwrap();
            let mut again = Restorer::new(SETTINGS, image.zxid);
            let contents = reader::read(&RealDisk, &staged.name, ReadOptions::default(), &mut again).unwrap();
            assert!(contents.footer);
            assert_eq!(contents.last_zxid, Some(image.zxid));
            assert_eq!(contents.digest.unwrap().value, staged.head.digest());
            assert_eq!(again.finish().unwrap().digest(), staged.head.digest());
        }
    }

    #[test]
    fn a_stream_that_breaks_off_anywhere_leaves_nothing() {
        let mut image = image();
        image.nodes.truncate(12);
        let sent = stream(&image);
        let dir = tempfile::tempdir().unwrap();
        for cut in 0..sent.len() {
            match receive_in(dir.path(), &sent[..cut], 29) {
                Err(StreamError::Ended { received_bytes }) => assert_eq!(received_bytes, cut as u64),
                Err(other) => panic!("cut at {cut}: {other}"),
                Ok(_) => panic!("cut at {cut}"),
            }
            assert!(files(dir.path()).is_empty());
        }
    }

    #[track_caller]
    fn check_damaged(bytes: &[u8], says: &str) {
        let dir = tempfile::tempdir().unwrap();
        let error = receive_in(dir.path(), bytes, 4096).err().expect("refused").to_string();
        assert!(error.contains(says), "{error}");
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn what_no_tree_can_be_is_refused() {
        let sent = stream(&image());
        let without_word = [&sent[..sent.len() - 14], &[0; 14]].concat();
        check_damaged(&without_word, "the word BenWasHere does not follow");
        // Of the first ACL's scheme, and of the first session's count.
        for length in [i32::MAX, i32::MIN, -2, FIELD_BYTES_MAX as i32 + 1] {
            let mut wrong = sent.clone();
            let at = 4 + 12 + 4 + 8 + 4 + 4;
            wrong[at..at + 4].copy_from_slice(&length.to_be_bytes());
            check_damaged(&wrong, &format!("unreasonable length {length}"));
        }
        let mut many = vec![0; 4];
        many.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0x7f, 0xff, 0xff, 0xff]);
        many.extend(std::iter::repeat_n([0u8; 12], 200_000).flatten());
        check_damaged(&many, "an ACL of unreasonable length");
        let mut twice = image();
        twice.nodes.push(twice.nodes[5].clone());
        check_damaged(&stream(&twice), "there twice");
        let rootless = Image { nodes: image().nodes[1..].to_vec(), ..image() };
        check_damaged(&stream(&rootless), "the first znode of a snapshot is the root");
        check_damaged(&stream(&Image { nodes: Vec::new(), ..image() }), "no znodes");
    }

    #[test]
    fn a_full_disk_is_told_with_the_file() {
        let missing = Path::new("/nonexistent");
        let error = receive_in(missing, &stream(&image()), 4096).err().unwrap();
        assert!(matches!(error, StreamError::Disk { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_waited_for(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut image = Image::default();
            let mut fed = 0;
            let _ = restore(FIELD_BYTES_MAX, &mut |held| {
                held.push(*bytes.get(fed).ok_or(Ended)?);
                fed += 1;
                Ok(())
            }, &mut image);
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0usize..3000, to in any::<u8>()) {
            let mut sent = stream(&image());
            sent[at] = to;
            let _ = restore(FIELD_BYTES_MAX, &mut pieces(&sent, 1000), &mut Restorer::new(SETTINGS, Zxid(1)));
        }
    }
}
