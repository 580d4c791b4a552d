//! Files as memory: the one place of this module that needs `unsafe`.

use std::path::Path;

use arrow_buffer::Buffer;

use crate::kit::error::{Error, Result};
use crate::kit::files;

/// Maps a file read-only. The buffer keeps the map alive, also after the file is unlinked. O(1).
#[allow(unsafe_code, reason = "a memory map is the only way to open a plan of 10^9 rows in milliseconds")]
pub(crate) fn map(path: &Path) -> Result<Buffer> {
    let file = files::open(path).map_err(Error::io("open", path))?;
    if file.metadata().map_err(Error::io("read", path))?.len() == 0 {
        return Ok(Buffer::from_vec(Vec::<u8>::new()));
    }
    // SAFETY: sound as long as nobody changes or truncates the file while it is mapped. Files of a plan are never changed
    // in place: they are written in a directory that no one else knows, moved into place whole, and replaced by
    // unlinking. Who edits them by hand while they are open can make this process read torn numbers or die of SIGBUS.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
    Ok(Buffer::from(bytes::Bytes::from_owner(map)))
}
