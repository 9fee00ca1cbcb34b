//! Reading what may not have come whole: every step either has its bytes, or more are needed, or they are wrong.
//! Not here: what the fields mean.
//! Invariant: no length is believed before it has been compared with its bound, and nothing is allocated for bytes that
//! are not there.

use std::fmt;

/// Why a peer's bytes are none that this protocol knows. The connection is of no more use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// A length that its field cannot have.
    Length { field: &'static str, length: i64, max: usize },
    /// A packet whose data does not fit its type.
    Data { packet: &'static str, length: usize },
    /// Text that is not UTF-8.
    Text { field: &'static str },
    /// The first bytes of a connection of the election port are of no known version.
    Version(i64),
    /// An id that no server has.
    Id(i64),
    /// An address that a server announces for itself and that nobody could connect to.
    Address(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Length { field, length, max } => {
                write!(f, "a length of {length} for {field}, where {max} is the most")
            }
            Malformed::Data { packet, length } => write!(f, "a packet {packet} with {length} bytes of data"),
            Malformed::Text { field } => write!(f, "{field} is not UTF-8"),
            Malformed::Version(version) => write!(f, "a handshake of version {version}, which nobody knows"),
            Malformed::Id(id) => write!(f, "a handshake with the server id {id}"),
            Malformed::Address(address) => write!(f, "a handshake with the address {address:?}"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// What there is may be the beginning of something good.
    More,
    Bad(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Stop {
        Stop::Bad(malformed)
    }
}

/// What decoders return: the value and how many bytes it took, or `None` while more bytes are needed.
pub(super) fn outcome<T>(read: Result<(T, usize), Stop>) -> Result<Option<(T, usize)>, Malformed> {
    match read {
        Ok(whole) => Ok(Some(whole)),
        Err(Stop::More) => Ok(None),
        Err(Stop::Bad(malformed)) => Err(malformed),
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, used: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Another reader that goes on where this one is.
    pub(super) fn fork(&self) -> Reader<'a> {
        Reader { bytes: self.bytes, used: self.used }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.used
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let taken = self.bytes[self.used..].get(..length).ok_or(Stop::More)?;
        self.used += length;
        Ok(taken)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.used..];
        self.used = self.bytes.len();
        rest
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (array, _) = self.bytes[self.used..].split_first_chunk::<N>().ok_or(Stop::More)?;
        self.used += N;
        Ok(*array)
    }

    pub(super) fn int(&mut self) -> Result<i32, Stop> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Result<i64, Stop> {
        self.array().map(i64::from_be_bytes)
    }

    /// Bytes behind their length; `None` for the length -1.
    pub(super) fn buffer(&mut self, field: &'static str, max: usize) -> Result<Option<&'a [u8]>, Stop> {
        match self.int()? {
            -1 => Ok(None),
            length => {
                let bounded = usize::try_from(length).ok().filter(|length| *length <= max);
                let bounded = bounded.ok_or(Malformed::Length { field, length: length.into(), max })?;
                self.take(bounded).map(Some)
            }
        }
    }
}
