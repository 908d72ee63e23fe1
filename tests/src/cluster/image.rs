//! The image of the pods, given to an engine as a tar: a static busybox under the names that workloads call.

use std::path::Path;
use std::sync::OnceLock;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// What workloads call.
const APPLETS: [&str; 8] = ["sh", "sleep", "cat", "httpd", "nc", "ping", "touch", "true"];
/// Where a busybox may be.
const PLACES: [&str; 3] = ["/usr/bin/busybox", "/bin/busybox", "/usr/local/bin/busybox"];

/// Gives the engine at a socket the image `busybox:test`.
pub(super) async fn import(socket: &Path) {
    let archive = archive();
    let mut stream = UnixStream::connect(socket).await.expect("the engine listens");
    let head = format!(
        "POST /images/create?fromSrc=-&repo=busybox&tag=test HTTP/1.0\r\nHost: engine\r\n\
         Content-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    stream.write_all(head.as_bytes()).await.expect("asked");
    stream.write_all(archive).await.expect("given");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.contains("sha256:"), "the engine takes the image: {answer}");
}

fn archive() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let mut places = PLACES.iter().map(Path::new);
        let busybox = places.find(|place| place.exists()).expect("a busybox; run tests/run");
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_path_with_name(busybox, "bin/busybox").expect("a readable busybox");
        for applet in APPLETS {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            let name = format!("bin/{applet}");
            archive.append_link(&mut header, name, "busybox").expect("a link");
        }
        archive.into_inner().expect("an archive")
    })
}
