//! The demo's image: this very program and the shared libraries it needs, so that no registry is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use orchestrator_docker::{DockerRuntime, ImageFile};

/// Where the program lies in the image.
const PROGRAM: &str = "/orchd";

/// Makes the image under this tag.
pub async fn build(docker: &DockerRuntime, tag: &str) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut files = vec![file(&program, Path::new(PROGRAM))?];
    for library in libraries()? {
        files.push(file(&library, &library)?);
    }
    docker
        .import_image(tag, &files, &[format!("ENTRYPOINT [{PROGRAM:?}]")])
        .await
        .context("cannot make the demo's image")?;
    Ok(())
}

fn file(from: &Path, to: &Path) -> anyhow::Result<ImageFile> {
    let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    Ok(ImageFile { path: to.to_string_lossy().into_owned(), mode: 0o755, content: content.into() })
}

/// The shared libraries of this process, the dynamic loader among them, as the kernel has mapped them.
fn libraries() -> anyhow::Result<BTreeSet<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps").context("cannot read /proc/self/maps")?;
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).map(PathBuf::from);
    let is_library = |path: &PathBuf| {
        path.is_absolute()
            && path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.contains(".so"))
    };
    let mut found: BTreeSet<PathBuf> = paths.filter(is_library).collect();
    // Programs name the loader by its short path, which may be a link to the mapped one.
    found.extend(loader());
    Ok(found)
}

/// The path by which programs of this machine name their dynamic loader.
fn loader() -> Option<PathBuf> {
    let candidates =
        ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1"];
    candidates.iter().map(PathBuf::from).find(|path| path.exists())
}
