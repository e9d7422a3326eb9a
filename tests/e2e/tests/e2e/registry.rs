//! A small registry for tests: as much of the OCI distribution specification as a push and a pull
//! take, on loopback, with faults on demand. Made of `std` alone, so that other tests can have it.

#![allow(
    clippy::unwrap_used,
    reason = "this is for tests; a panic is their way to fail"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a connection is: plain, or with TLS around it.
pub type Wrap = dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync;

/// A connection.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Who may come.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Auth {
    /// Anybody.
    #[default]
    None,
    /// `Basic` of `user:password`, in base64.
    Basic(&'static str),
    /// A token, which the registry's own server gives to that user.
    Token(&'static str),
}

/// What goes wrong with answers to GET.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    #[default]
    None,
    /// A byte of a blob differs.
    WrongBlob,
    /// A byte of a manifest differs.
    WrongManifest,
    /// A blob ends in its middle, and the connection with it.
    Truncated,
    /// A blob without a length and an end.
    Endless,
    /// A manifest without a length and an end.
    EndlessManifest,
    /// Nothing is answered, ever.
    Silent,
    /// This status, to everything.
    Status(u16),
    /// Blobs lie elsewhere: at `/elsewhere/…`.
    Redirect,
}

/// What the registry holds and was asked.
#[derive(Default)]
pub struct Inside {
    pub auth: Auth,
    pub fault: Fault,
    pub blobs: HashMap<String, Vec<u8>>,
    pub manifests: HashMap<String, Vec<u8>>,
    /// Method, path, and what stood in `Authorization`.
    pub asked: Vec<(String, String, Option<String>)>,
}

/// A registry that serves until it is dropped.
pub struct Registry {
    pub address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
}

impl Registry {
    /// Without TLS.
    pub fn start() -> Registry {
        Registry::start_with(Arc::new(|stream| Box::new(stream)), "http")
    }

    /// With whatever `wrap` puts around a connection.
    pub fn start_with(wrap: Arc<Wrap>, scheme: &'static str) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::<Mutex<Inside>>::default();
        let shared = Arc::downgrade(&inside);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Gone with the test.
                let (Some(inside), Ok(stream)) = (shared.upgrade(), stream) else {
                    return;
                };
                let wrap = wrap.clone();
                std::thread::spawn(move || {
                    let mut stream = wrap(stream);
                    // Whoever goes away in the middle has what it wanted.
                    let _ = serve(&mut *stream, &inside, address, scheme);
                });
            }
        });
        Registry { address, inside }
    }

    pub fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// `127.0.0.1:PORT/` and the rest.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Has a manifest under its digest too.
    pub fn pin(&self, repository: &str, tag: &str, digest: &str) {
        let path = |version: &str| format!("/v2/{repository}/manifests/{version}");
        let mut inside = self.inside();
        let manifest = inside.manifests[&path(tag)].clone();
        inside.manifests.insert(path(digest), manifest);
    }

    /// How often a path with this part was asked for.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let inside = self.inside();
        let is = |asked: &&(String, String, _)| asked.0 == method && asked.1.contains(part);
        inside.asked.iter().filter(is).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Wakes the thread that accepts, once this one's share is gone.
        let address = self.address;
        self.inside = Arc::default();
        let _ = TcpStream::connect(address);
    }
}

struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

fn read_request(stream: &mut dyn Stream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (method, path) = (method.to_owned(), path.to_owned());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request {
        method,
        path,
        authorization,
        body,
    })
}

fn answer(
    stream: &mut dyn Stream,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}

/// An answer that goes on until the other side has had enough.
fn endless(stream: &mut dyn Stream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n")?;
    loop {
        stream.write_all(&[b' '; 4096])?;
    }
}

fn serve(
    stream: &mut dyn Stream,
    inside: &Mutex<Inside>,
    address: SocketAddr,
    scheme: &str,
) -> std::io::Result<()> {
    let request = read_request(stream)?;
    let (method, path) = (request.method.as_str(), request.path.as_str());
    let (auth, fault) = {
        let mut inside = inside.lock().unwrap();
        let asked = (
            method.to_owned(),
            path.to_owned(),
            request.authorization.clone(),
        );
        inside.asked.push(asked);
        (inside.auth.clone(), inside.fault)
    };
    match fault {
        Fault::Status(status) => {
            let words = br#"{"errors":[{"code":"X","message":"as the test wants it"}]}"#;
            return answer(stream, status, &[], words);
        }
        Fault::Silent => {
            // Until the other side goes away.
            let _ = stream.read(&mut [0]);
            return Ok(());
        }
        _ => {}
    }
    if let Some(user) = path.strip_prefix("/token") {
        let Auth::Token(expected) = auth else {
            return answer(stream, 404, &[], b"");
        };
        assert!(user.contains("service=tests"), "{user}");
        return match request.authorization.as_deref() == Some(&format!("Basic {expected}")) {
            true => answer(stream, 200, &[], br#"{"token":"good"}"#),
            false => answer(stream, 401, &[], b"who?"),
        };
    }
    let challenge = match &auth {
        Auth::None => None,
        Auth::Basic(expected) => {
            let is_good = request.authorization.as_deref() == Some(&format!("Basic {expected}"));
            (!is_good).then(|| "Basic realm=\"tests\"".to_owned())
        }
        Auth::Token(_) => {
            let is_good = request.authorization.as_deref() == Some("Bearer good");
            let challenge =
                format!("Bearer realm=\"{scheme}://{address}/token\",service=\"tests\"");
            (!is_good).then_some(challenge)
        }
    };
    if let Some(challenge) = challenge
        && !path.starts_with("/elsewhere/")
    {
        return answer(stream, 401, &[("www-authenticate", &challenge)], b"");
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let mut inside = inside.lock().unwrap();
    match (method, path) {
        ("GET", path) if path.starts_with("/elsewhere/") => {
            assert_eq!(request.authorization, None, "credentials went elsewhere");
            let blob = inside.blobs.get(last).cloned().unwrap_or_default();
            answer(stream, 200, &[], &blob)
        }
        ("GET", path) if path.contains("/manifests/") => {
            let found = inside.manifests.get(path).cloned();
            let Some(mut manifest) = found else {
                return answer(stream, 404, &[], b"");
            };
            drop(inside);
            match fault {
                Fault::EndlessManifest => return endless(stream),
                Fault::WrongManifest => manifest.push(b' '),
                _ => {}
            }
            answer(stream, 200, &[], &manifest)
        }
        ("GET" | "HEAD", path) if path.contains("/blobs/") => {
            let Some(mut blob) = inside.blobs.get(last).cloned() else {
                return answer(stream, 404, &[], b"");
            };
            drop(inside);
            match fault {
                _ if method == "HEAD" => return answer(stream, 200, &[], b""),
                Fault::Redirect => {
                    let to = format!("/elsewhere/{last}");
                    return answer(stream, 307, &[("location", &to)], b"");
                }
                Fault::Endless => return endless(stream),
                Fault::WrongBlob => blob[100] ^= 1,
                Fault::Truncated => {
                    let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", blob.len());
                    stream.write_all(head.as_bytes())?;
                    stream.write_all(&blob[..blob.len() / 2])?;
                    return stream.flush();
                }
                _ => {}
            }
            answer(stream, 200, &[], &blob)
        }
        ("POST", path) if path.ends_with("/blobs/uploads/") => {
            let to = format!("{path}1?state=x");
            answer(stream, 202, &[("location", &to)], b"")
        }
        ("PUT", path) if path.contains("/blobs/uploads/1?state=x&digest=") => {
            let digest = path.split("digest=").nth(1).unwrap_or_default();
            let digest = digest.replace("%3A", ":");
            inside.blobs.insert(digest, request.body);
            answer(stream, 201, &[], b"")
        }
        ("PUT", path) if path.contains("/manifests/") => {
            inside.manifests.insert(path.to_owned(), request.body);
            answer(stream, 201, &[], b"")
        }
        _ => answer(stream, 400, &[], b"not known here"),
    }
}
