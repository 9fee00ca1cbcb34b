//! The seam between a thread and its sockets: readiness, bytes in, bytes out, connecting, listeners, a way to be woken.
//! Workers have their clients behind one, the core its ensemble's other servers.
//! Not here: frames, requests, time, names of hosts.
//!
//! The driver owns the sockets and its user names them by token, so that a driver may be readiness-based (mio, here),
//! completion-based (io_uring: `read` hands out what has completed, `write` queues), or a simulated network.
//!
//! Contract for every driver:
//! - Readiness is edge-triggered: after a `Ready` a token is not reported again until its user has met `WouldBlock`,
//!   or a read shorter than its buffer, or something new has happened.
//! - A peer's shutdown is reported with `closing`: then the user reads on until it gets 0 or an error.
//! - What became of a `connect` is reported as `writable` or `closing`: then `connected` tells.
//! - Tokens are the caller's; a released token may be adopted again, and no event of its earlier life appears later.
//! - Listeners have numbers below [`LISTENERS_MAX`], which are the caller's too.

use crate::ring::Wake;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Listeners of one driver: a server has few addresses, each with few ports.
pub const LISTENERS_MAX: u32 = 64;

/// What a wait reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    Socket {
        token: u32,
        readable: bool,
        writable: bool,
        /// The peer has shut down or the socket failed.
        closing: bool,
    },
    /// The listener of this number has connections to accept.
    Listener(u32),
    /// `Wake::wake` was called.
    Woken,
}

/// A driver. All calls but `wait` return at once.
pub trait Poll: Send {
    /// An accepted connection that no driver owns yet: it travels from the acceptor to its worker.
    type Socket: Send + 'static;
    type Listener: Send;

    fn waker(&self) -> Box<dyn Wake>;

    /// Opens a port, on all interfaces when no address is given. Port 0 lets the system pick; the address in use comes
    /// back.
    fn bind(
        &mut self,
        address: Option<IpAddr>,
        port: u16,
        backlog: u32,
    ) -> io::Result<(Self::Listener, SocketAddr)>;

    /// Starts reporting `Ready::Listener` with this number.
    fn listen(&mut self, number: u32, listener: Self::Listener) -> io::Result<()>;

    /// The next connection that waits at this listener; `WouldBlock` when there is none. Other errors concern that
    /// connection only, or the process's resources.
    fn accept(&mut self, number: u32) -> io::Result<(Self::Socket, SocketAddr)>;

    /// Closes the listener; further connects are refused by the kernel.
    fn unlisten(&mut self, number: u32);

    /// Begins to connect, and registers the connection under this token. An error: it cannot even be tried, and the token
    /// stays free.
    fn connect(&mut self, token: u32, address: SocketAddr) -> io::Result<()>;

    /// Whether a connection begun by `connect` stands; false: not yet. An error: it did not come about, and the token is
    /// to be released.
    fn connected(&mut self, token: u32) -> io::Result<bool>;

    fn adopt(&mut self, token: u32, socket: Self::Socket) -> io::Result<()>;

    /// Closes the socket.
    fn release(&mut self, token: u32);

    /// Sends FIN behind what was written; reading goes on.
    fn shutdown(&mut self, token: u32);

    /// One system call at most. 0 is the end of the stream.
    fn read(&mut self, token: u32, into: &mut [u8]) -> io::Result<usize>;

    /// One system call at most.
    fn write(&mut self, token: u32, bytes: &[u8]) -> io::Result<usize>;

    /// The same for bytes that lie in several places, of which the driver may leave any number for the next call.
    fn write_gathered(&mut self, token: u32, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces.iter().find(|piece| !piece.is_empty()) {
            Some(piece) => self.write(token, piece),
            None => Ok(0),
        }
    }

    /// Appends what became ready to `ready`; returns without any at the end of `patience` (`None`: never).
    fn wait(&mut self, patience: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;
}

/// The driver over epoll, kqueue and the like.
pub struct MioPoll {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<mio::Waker>,
    /// By number.
    listeners: [Option<mio::net::TcpListener>; LISTENERS_MAX as usize],
    /// By token.
    sockets: Vec<Option<mio::net::TcpStream>>,
    keep_alive: bool,
}

/// Above every slot.
const TOKEN_WAKE: mio::Token = mio::Token(usize::MAX);
/// That of the listener 0; the others follow.
const TOKEN_LISTENERS: usize = usize::MAX - LISTENERS_MAX as usize;
/// Reports taken from the kernel by one wait.
const WAIT_EVENTS_MAX: usize = 1024;

impl MioPoll {
    /// `keep_alive` sets SO_KEEPALIVE on every connection (`clientTcpKeepAlive`; `tcpKeepAlive` between servers).
    pub fn new(keep_alive: bool) -> io::Result<MioPoll> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), TOKEN_WAKE)?);
        Ok(MioPoll {
            poll,
            events: mio::Events::with_capacity(WAIT_EVENTS_MAX),
            waker,
            listeners: [const { None }; LISTENERS_MAX as usize],
            sockets: Vec::new(),
            keep_alive,
        })
    }

    fn socket(&mut self, token: u32) -> io::Result<&mut mio::net::TcpStream> {
        let socket = self.sockets.get_mut(token as usize).and_then(Option::as_mut);
        socket.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    fn set_options(&self, socket: &mio::net::TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        if self.keep_alive {
            socket2::SockRef::from(socket).set_keepalive(true)?;
        }
        Ok(())
    }
}

/// Binds the client port as Apache does: all interfaces means IPv6 and IPv4 through one socket where there is IPv6.
/// Port 0 lets the kernel pick; the address in use comes back.
pub fn bind(address: Option<IpAddr>, port: u16) -> io::Result<Bound> {
    let socket = match address {
        Some(address) => bind_one(SocketAddr::new(address, port))?,
        None => match bind_one((std::net::Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                bind_one((std::net::Ipv4Addr::UNSPECIFIED, port).into())?
            }
            bound => bound?,
        },
    };
    Ok(Bound { socket })
}

/// A port that is taken. Who connects to it is refused by the kernel until it listens.
pub struct Bound {
    socket: socket2::Socket,
}

impl Bound {
    pub fn listen(self, backlog: u32) -> io::Result<(mio::net::TcpListener, SocketAddr)> {
        self.socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let listener: std::net::TcpListener = self.socket.into();
        let address = listener.local_addr()?;
        Ok((mio::net::TcpListener::from_std(listener), address))
    }
}

fn bind_one(address: SocketAddr) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The eventfd (or what the platform has) behind a poll.
struct MioWaker(Arc<mio::Waker>);

impl Wake for MioWaker {
    fn wake(&self) {
        // Fails only if the process may not write to its own eventfd: then nothing works any more, and the wait's
        // bound keeps the worker going.
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "a worker could not be woken");
        }
    }
}

impl Poll for MioPoll {
    type Socket = mio::net::TcpStream;
    type Listener = mio::net::TcpListener;

    fn waker(&self) -> Box<dyn Wake> {
        Box::new(MioWaker(self.waker.clone()))
    }

    fn bind(
        &mut self,
        address: Option<IpAddr>,
        port: u16,
        backlog: u32,
    ) -> io::Result<(mio::net::TcpListener, SocketAddr)> {
        bind(address, port)?.listen(backlog)
    }

    fn listen(&mut self, number: u32, mut listener: mio::net::TcpListener) -> io::Result<()> {
        let token = mio::Token(TOKEN_LISTENERS + number as usize);
        self.poll.registry().register(&mut listener, token, mio::Interest::READABLE)?;
        self.listeners[number as usize] = Some(listener);
        Ok(())
    }

    fn accept(&mut self, number: u32) -> io::Result<(mio::net::TcpStream, SocketAddr)> {
        let Some(listener) = &self.listeners[number as usize] else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let (socket, address) = listener.accept()?;
        self.set_options(&socket)?;
        // A dual-stack listener shows IPv4 peers as mapped IPv6; limits and `ip` ACLs know them as IPv4.
        Ok((socket, SocketAddr::new(address.ip().to_canonical(), address.port())))
    }

    fn unlisten(&mut self, number: u32) {
        self.listeners[number as usize] = None;
    }

    fn connect(&mut self, token: u32, address: SocketAddr) -> io::Result<()> {
        let socket = mio::net::TcpStream::connect(address)?;
        self.set_options(&socket)?;
        self.adopt(token, socket)
    }

    fn connected(&mut self, token: u32) -> io::Result<bool> {
        let socket = self.socket(token)?;
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn adopt(&mut self, token: u32, mut socket: mio::net::TcpStream) -> io::Result<()> {
        // Both interests, once and for all: under edge-triggered epoll a writable socket is reported only together
        // with something else or after a write that did not fit.
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        self.poll.registry().register(&mut socket, mio::Token(token as usize), interest)?;
        if self.sockets.len() <= token as usize {
            self.sockets.resize_with(token as usize + 1, || None);
        }
        self.sockets[token as usize] = Some(socket);
        Ok(())
    }

    fn release(&mut self, token: u32) {
        // Closing the descriptor, of which there is one, takes it out of epoll.
        if let Some(socket) = self.sockets.get_mut(token as usize) {
            *socket = None;
        }
    }

    fn shutdown(&mut self, token: u32) {
        if let Ok(socket) = self.socket(token) {
            // The peer may have reset the connection meanwhile; the next read tells.
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
    }

    fn read(&mut self, token: u32, into: &mut [u8]) -> io::Result<usize> {
        io::Read::read(self.socket(token)?, into)
    }

    fn write(&mut self, token: u32, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self.socket(token)?, bytes)
    }

    fn write_gathered(&mut self, token: u32, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        io::Write::write_vectored(self.socket(token)?, pieces)
    }

    fn wait(&mut self, patience: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        ready.extend(self.events.iter().map(|event| match event.token() {
            TOKEN_WAKE => Ready::Woken,
            mio::Token(token) if token >= TOKEN_LISTENERS => {
                Ready::Listener((token - TOKEN_LISTENERS) as u32)
            }
            token => Ready::Socket {
                token: token.0 as u32,
                readable: event.is_readable(),
                writable: event.is_writable(),
                closing: event.is_read_closed() || event.is_error(),
            },
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    /// A driver with a listener and one adopted connection under token 3; the client's end comes along.
    fn connected() -> (MioPoll, TcpStream) {
        let mut poll = MioPoll::new(true).expect("a poll");
        let (listener, address) =
            bind(Some(Ipv4Addr::LOCALHOST.into()), 0).and_then(|bound| bound.listen(8)).expect("a port");
        poll.listen(5, listener).expect("registered");
        let client = TcpStream::connect(address).expect("connected");
        wait_for(&mut poll, |ready| ready == Ready::Listener(5));
        let (socket, from) = poll.accept(5).expect("a connection");
        assert_eq!(from, client.local_addr().expect("bound"));
        assert_eq!(poll.accept(5).expect_err("only one").kind(), io::ErrorKind::WouldBlock);
        poll.adopt(3, socket).expect("registered");
        (poll, client)
    }

    fn wait_for(poll: &mut MioPoll, wanted: impl Fn(Ready) -> bool) {
        let mut ready = Vec::new();
        while !ready.iter().any(|&ready| wanted(ready)) {
            ready.clear();
            poll.wait(Some(Duration::from_secs(10)), &mut ready).expect("a wait");
            assert!(!ready.is_empty(), "nothing came");
        }
    }

    #[test]
    fn bytes_go_both_ways_and_the_end_is_seen() {
        let (mut poll, mut client) = connected();
        let mut buffer = [0; 16];
        client.write_all(b"hello").expect("written");
        wait_for(&mut poll, |ready| matches!(ready, Ready::Socket { token: 3, readable: true, .. }));
        assert_eq!(poll.read(3, &mut buffer).expect("read"), 5);
        assert_eq!(poll.read(3, &mut buffer).expect_err("dry").kind(), io::ErrorKind::WouldBlock);
        assert_eq!(poll.write(3, b"bye").expect("written"), 3);
        poll.shutdown(3);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("read");
        assert_eq!(answer, b"bye");
        drop(client);
        wait_for(&mut poll, |ready| matches!(ready, Ready::Socket { token: 3, closing: true, .. }));
        assert_eq!(poll.read(3, &mut buffer).expect("end"), 0);
        poll.release(3);
        assert!(poll.read(3, &mut buffer).is_err());
        assert!(poll.read(99, &mut buffer).is_err());
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let mut poll = MioPoll::new(false).expect("a poll");
        let waker = poll.waker();
        let other = std::thread::spawn(move || waker.wake());
        wait_for(&mut poll, |ready| ready == Ready::Woken);
        other.join().expect("the other thread");
    }

    #[test]
    fn listeners_are_told_apart_and_close_one_by_one() {
        let mut poll = MioPoll::new(false).expect("a poll");
        let addresses = [0, LISTENERS_MAX - 1].map(|number| {
            let (listener, address) = poll.bind(Some(Ipv4Addr::LOCALHOST.into()), 0, 8).expect("a port");
            poll.listen(number, listener).expect("registered");
            address
        });
        let _second = TcpStream::connect(addresses[1]).expect("connected");
        wait_for(&mut poll, |ready| ready == Ready::Listener(LISTENERS_MAX - 1));
        assert_eq!(poll.accept(0).expect_err("nobody there").kind(), io::ErrorKind::WouldBlock);
        assert!(poll.accept(LISTENERS_MAX - 1).is_ok());
        poll.unlisten(LISTENERS_MAX - 1);
        assert!(TcpStream::connect(addresses[1]).is_err());
        let _first = TcpStream::connect(addresses[0]).expect("connected");
        wait_for(&mut poll, |ready| ready == Ready::Listener(0));
    }

    #[test]
    fn a_connect_is_reported_when_it_stands_and_when_it_fails() {
        let mut poll = MioPoll::new(true).expect("a poll");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        poll.connect(7, address).expect("begun");
        wait_for(&mut poll, |ready| matches!(ready, Ready::Socket { token: 7, writable: true, .. }));
        assert!(poll.connected(7).expect("connected"));
        let (mut server, _) = listener.accept().expect("accepted");
        let pieces = [IoSlice::new(b""), IoSlice::new(b"two "), IoSlice::new(b"pieces")];
        assert_eq!(poll.write_gathered(7, &pieces).expect("written"), 10);
        poll.release(7);
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes, b"two pieces");

        drop(listener);
        poll.connect(7, address).expect("begun");
        wait_for(&mut poll, |ready| matches!(ready, Ready::Socket { token: 7, closing: true, .. }));
        assert_eq!(poll.connected(7).expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
    }
}
