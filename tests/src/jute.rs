//! Jute, Apache's record encoding, written for the tests from the protocol's description alone.
//! Not here, on purpose: anything of the engine's own codecs. A mistake there must not cancel out here.

/// Appends fields in order. Every method gives the builder back, so that a record reads as one expression.
#[derive(Clone, Debug, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn new() -> Body {
        Body::default()
    }

    pub fn byte(mut self, value: u8) -> Body {
        self.0.push(value);
        self
    }

    pub fn bool(self, value: bool) -> Body {
        self.byte(u8::from(value))
    }

    pub fn int(mut self, value: i32) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: i64) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A buffer, or a ustring given as bytes; `None` is null.
    pub fn buffer(self, value: Option<&[u8]>) -> Body {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                let mut body = self.int(i32::try_from(bytes.len()).expect("a buffer of a test is small"));
                body.0.extend_from_slice(bytes);
                body
            }
        }
    }

    pub fn string(self, value: &str) -> Body {
        self.buffer(Some(value.as_bytes()))
    }

    pub fn strings<S: AsRef<[u8]>>(self, values: &[S]) -> Body {
        let body = self.int(i32::try_from(values.len()).expect("a vector of a test is small"));
        values.iter().fold(body, |body, value| body.buffer(Some(value.as_ref())))
    }

    pub fn raw(mut self, bytes: &[u8]) -> Body {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Reads fields in order; `None` when the bytes end too early.
#[derive(Clone, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn int(&mut self) -> Option<i32> {
        self.take(4).map(|bytes| i32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }

    pub fn long(&mut self) -> Option<i64> {
        self.take(8).map(|bytes| i64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    }

    /// The inner `None` is null.
    pub fn buffer(&mut self) -> Option<Option<&'a [u8]>> {
        match self.int()? {
            -1 => Some(None),
            count => Some(Some(self.take(usize::try_from(count).ok()?)?)),
        }
    }

    pub fn string(&mut self) -> Option<String> {
        let bytes = self.buffer()?;
        Some(bytes.map_or("<null>".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    /// A null vector reads as `["<null vector>"]`: the callers only compare and print.
    pub fn strings(&mut self) -> Option<Vec<String>> {
        match self.int()? {
            -1 => Some(vec!["<null vector>".to_owned()]),
            count => (0..count).map(|_| self.string()).collect(),
        }
    }
}
