//! Images from files, without a registry: a tar archive through the engine's import endpoint.

use bytes::Bytes;
use orchestrator_core::runtime::RuntimeError;

use crate::engine::Engine;
use crate::translate::image_reference;

/// The static program that sandbox containers run; `build.rs` makes it from `pause.c`.
const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));
/// The repository of the pause image; its tag is a hash of the program, so that another version has another image.
const PAUSE_REPOSITORY: &str = "orchestrator.dev/pause";

/// A regular file of an image made by [`DockerRuntime::import_image`](crate::DockerRuntime::import_image).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// The path in the image, such as `/usr/bin/app`.
    pub path: String,
    /// The permission bits, such as `0o755`.
    pub mode: u32,
    /// The content.
    pub content: Bytes,
}

/// Returns the name of the pause image.
pub(crate) fn pause_image() -> String {
    format!("{PAUSE_REPOSITORY}:{:016x}", hash(PAUSE))
}

/// Makes the pause image.
pub(crate) async fn import_pause(engine: &Engine) -> Result<(), RuntimeError> {
    let program = Bytes::from_static(PAUSE);
    let file = ImageFile { path: "/pause".to_owned(), mode: 0o755, content: program };
    import(engine, &pause_image(), &[file], &[r#"ENTRYPOINT ["/pause"]"#.to_owned()]).await
}

/// Makes an image from files and Dockerfile lines.
pub(crate) async fn import(
    engine: &Engine,
    image: &str,
    files: &[ImageFile],
    changes: &[String],
) -> Result<(), RuntimeError> {
    let reference = image_reference(image)?;
    let name = reference.rsplit_once(':').filter(|_| !reference.contains('@'));
    let name = name.ok_or_else(|| RuntimeError::Invalid {
        message: format!("{image:?} has a digest; an image is made under a name and a tag"),
    })?;
    let archive = archive(files)?;
    let outcome = engine.import(name, archive, changes.to_vec()).await;
    outcome.map_err(|error| error.into_runtime(format!("importing image {reference}")))
}

/// Packs files into a tar archive, each after the directories it lies in; equal files give equal bytes.
fn archive(files: &[ImageFile]) -> Result<Bytes, RuntimeError> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut made = std::collections::BTreeSet::new();
    for file in files {
        let path = relative(&file.path)?;
        let directories = path.match_indices('/').map(|(at, _)| &path[..=at]);
        for directory in directories.filter(|directory| made.insert((*directory).to_owned())) {
            let header = header(tar::EntryType::Directory, 0o755, 0);
            append(&mut builder, header, directory, &[])?;
        }
        let size = u64::try_from(file.content.len()).unwrap_or(u64::MAX);
        let header = header(tar::EntryType::Regular, file.mode, size);
        append(&mut builder, header, path, &file.content)?;
    }
    builder.into_inner().map(Bytes::from).map_err(|error| unpackable("the archive", &error))
}

fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    mut header: tar::Header,
    path: &str,
    content: &[u8],
) -> Result<(), RuntimeError> {
    builder.append_data(&mut header, path, content).map_err(|error| unpackable(path, &error))
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn relative(path: &str) -> Result<&str, RuntimeError> {
    let relative = path.trim_start_matches('/');
    let names = |name: &str| !name.is_empty() && name != "." && name != "..";
    if relative.split('/').all(names) {
        return Ok(relative);
    }
    Err(RuntimeError::Invalid {
        message: format!("{path:?} is not the path of a file in an image"),
    })
}

fn unpackable(what: &str, error: &std::io::Error) -> RuntimeError {
    RuntimeError::Invalid { message: format!("{what} cannot be packed into an image: {error}") }
}

/// FNV-1a: tells one build of the pause program from another. <http://www.isthe.com/chongo/tech/comp/fnv/>
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn file(path: &str) -> ImageFile {
        ImageFile { path: path.to_owned(), mode: 0o755, content: Bytes::from_static(b"x") }
    }

    #[test]
    fn each_directory_comes_once_and_before_its_files() {
        let archive = archive(&[file("/usr/bin/app"), file("/usr/lib/a.so")]).expect("packed");
        let mut archive = tar::Archive::new(&archive[..]);
        let mut paths = Vec::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).expect("content");
            assert_eq!(content.is_empty(), path.ends_with('/'), "{path}");
            paths.push(path);
        }
        assert_eq!(paths, ["usr/", "usr/bin/", "usr/bin/app", "usr/lib/", "usr/lib/a.so"]);
    }

    #[test]
    fn equal_files_give_equal_archives() {
        let pack = || archive(&[file("/a/b")]).expect("packed");
        assert_eq!(pack(), pack());
    }

    #[test]
    fn a_path_that_leaves_the_image_is_refused() {
        for bad in ["", "/", "../x", "/a/../b", "a//b", "a/", "./a"] {
            assert!(archive(&[file(bad)]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_pause_program_is_a_linux_program() {
        assert_eq!(&PAUSE[..4], b"\x7fELF");
        assert!(pause_image().starts_with("orchestrator.dev/pause:"));
    }
}
