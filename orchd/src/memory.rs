//! Gives back to the kernel what lies in memory and is not used: of a daemon that waits that is most of its program.
//!
//! Each page of the program that is touched once stays mapped, and with it the 64 KiB around it (Linux' `fault_around_bytes`): what was
//! needed to start, a command line and a handshake long ago, is still there hours later. What was given back and is needed after all is
//! mapped anew from the file, at a microsecond or so each time.

use std::convert::Infallible;
use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};

/// How long after the start, when what was needed for that is over.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// How often after that.
const EVERY: Duration = Duration::from_secs(60);
/// The program that runs, by the name by which the kernel knows what is mapped of it.
const PROGRAM: &str = "/proc/self/exe";
/// Where the kernel tells of what is mapped.
const MAPPINGS: &str = "/proc/self/smaps";

/// Waits for something, and meanwhile gives back what is idle, again and again.
pub async fn stay_small_until<T>(end: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = end => ended,
        never = stay_small() => match never {},
    }
}

async fn stay_small() -> Infallible {
    tokio::time::sleep(FIRST_AFTER).await;
    loop {
        if let Err(error) = give_back() {
            tracing::debug!(%error, "memory that lies idle is not given back");
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn give_back() -> io::Result<()> {
    let program = std::fs::read_link(PROGRAM)?;
    for code in code_of(&program.to_string_lossy(), &std::fs::read_to_string(MAPPINGS)?) {
        code.give_back()?;
    }
    Ok(())
}

/// Code of this program in memory, as it is in its file.
#[derive(Debug, PartialEq, Eq)]
struct Code {
    start: usize,
    length: usize,
}

impl Code {
    #[allow(unsafe_code)] // There is no other way, and no library that gives one.
    fn give_back(&self) -> io::Result<()> {
        let Some(start) = NonNull::new(self.start as *mut c_void) else { return Ok(()) };
        // SAFETY: the program's own code stays mapped where it is as long as the program runs, so that this is no other memory. All
        // of its pages are those of the file, and nobody may write to them: the kernel maps the same ones anew when they are touched.
        unsafe { madvise(start, self.length, MmapAdvise::MADV_DONTNEED) }?;
        Ok(())
    }
}

/// Finds a program's code in what the kernel tells, if no page of it is another one than in the file: a debugger makes such pages.
fn code_of(program: &str, mappings: &str) -> Vec<Code> {
    let (mut found, mut candidate) = (Vec::new(), None);
    for line in mappings.lines() {
        let mut fields = line.split_whitespace();
        match (fields.next(), fields.next(), fields.next()) {
            // Pages that are not those of the file, here or in swap, which is told last.
            (Some("Anonymous:"), Some(size), _) if size != "0" => candidate = None,
            (Some("Swap:"), Some("0"), _) => found.extend(candidate.take()),
            (Some(range), Some("r-xp"), _) if line.ends_with(program) => {
                candidate = range_of(range)
            }
            (Some(range), ..) if range_of(range).is_some() => candidate = None,
            _ => {}
        }
    }
    found
}

fn range_of(text: &str) -> Option<Code> {
    let (start, end) = text.split_once('-')?;
    let at = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (at(start)?, at(end)?);
    Some(Code { start, length: end.checked_sub(start)? })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap};

    use super::*;

    const TOLD: &str = "\
5500000000-5500001000 r--p 00000000 fe:00 12 /usr/bin/an orchd
Anonymous:             0 kB
5500001000-5500004000 r-xp 00001000 fe:00 12 /usr/bin/an orchd
Rss:                  12 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
5500004000-5500005000 r-xp 00004000 fe:00 12 /usr/bin/an orchd
Anonymous:             4 kB
Swap:                  0 kB
5500005000-5500006000 r-xp 00005000 fe:00 12 /usr/bin/an orchd
Anonymous:             0 kB
Swap:                  4 kB
5500005000-5500006000 rw-p 00005000 fe:00 12 /usr/bin/an orchd
Anonymous:             0 kB
7f00000000-7f00008000 r-xp 00000000 fe:00 13 /usr/lib/libc.so.6
Anonymous:             0 kB
Swap:                  0 kB
7f00008000-7f00009000 r-xp 00000000 00:00 0
Anonymous:             0 kB
7ffd000000-7ffd002000 r-xp 00000000 00:00 0                              [vdso]
Anonymous:             0 kB
";

    const LENGTH: usize = 4_096;

    /// The beginning of a file in memory, until the tests end.
    #[allow(unsafe_code)]
    fn map(file: &std::fs::File) -> NonNull<c_void> {
        let length = NonZeroUsize::new(LENGTH).expect("more than none");
        let (read, private) = (ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        unsafe { mmap(None, length, read, private, file, 0) }.expect("mapped")
    }

    #[test]
    fn the_programs_own_code_is_found_if_it_is_as_in_its_file() {
        let expected = [Code { start: 0x55_0000_1000, length: 0x3000 }];
        assert_eq!(code_of("/usr/bin/an orchd", TOLD), expected);
    }

    #[test]
    fn this_program_has_code_to_give_back() {
        let program = std::fs::read_link(PROGRAM).expect("a program");
        let mappings = std::fs::read_to_string(MAPPINGS).expect("told");
        assert!(!code_of(&program.to_string_lossy(), &mappings).is_empty(), "{mappings}");
        give_back().expect("given back");
    }

    #[test]
    #[allow(unsafe_code)]
    fn what_is_given_back_leaves_memory_and_is_there_again_when_it_is_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("page");
        std::fs::write(&path, [7; LENGTH]).expect("written");
        let page = map(&std::fs::File::open(&path).expect("opened"));
        let first = || {
            // SAFETY: the mapping is as long as this, and the file does not change.
            unsafe { page.cast::<u8>().read_volatile() }
        };
        let is_resident = || {
            let mappings = std::fs::read_to_string(MAPPINGS).expect("told");
            let (_, ours) = mappings.split_once(path.to_str().expect("UTF-8")).expect("mapped");
            let rss = ours.lines().find(|line| line.starts_with("Rss:")).expect("a size");
            rss.split_whitespace().nth(1) != Some("0")
        };
        assert!(first() == 7 && is_resident());
        let code = Code { start: page.as_ptr() as usize, length: LENGTH };
        code.give_back().expect("given back");
        assert!(!is_resident());
        assert!(first() == 7 && is_resident());
    }
}
