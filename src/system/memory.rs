//! What the allocator keeps, and what a crash would leave. The allocator is told by its environment, which it reads only when a
//! program starts.

use rustix::process::{Resource, Rlimit, setrlimit};
use std::{env, os::unix::process::CommandExt, process::Command};

/// Free memory beyond the first at the end of the heap goes back to the system. Left alone, glibc raises it to twice the largest
/// block that was ever given back, which is a configuration. Large blocks are apart from it, so that small ones that stay do not
/// hold them (docs/decisions/0041-resident-memory.md).
const SETTINGS: [(&str, &str); 2] = [("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_MMAP_THRESHOLD_", "65536")];

/// Starts this program over in the same process, with the arguments that it was started with. It returns only if that cannot be
/// done. By the name that it was called by: after an upgrade there is another file under it.
pub fn begin_anew() -> std::io::Error {
    let mut args = env::args_os();
    let Some(name) = args.next() else { return std::io::ErrorKind::NotFound.into() };
    let by_path = std::path::Path::new(&name).components().count() > 1;
    let me = if by_path { std::path::PathBuf::from(&name) } else { env::current_exe().unwrap_or_else(|_| std::path::PathBuf::from(&name)) };
    Command::new(me).arg0(name).args(args).exec()
}

/// A crash leaves no image of this process: passwords and keys are in it. Where a sandbox forbids to say so, its unit has.
pub fn keep_out_of_cores() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Of this process, as the kernel counts it. `None`: it does not say.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())?;
    Some(kib * 1024)
}

/// Starts this program over under the settings, in the same process, unless whoever started it has set one. To be called
/// before anything else: it returns only if there is nothing to do or it cannot be done, and then memory is all it costs.
pub fn give_back_what_is_free() {
    if !cfg!(target_env = "gnu") || SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some()) {
        return;
    }
    let mut args = env::args_os();
    let (Ok(me), Some(name)) = (env::current_exe(), args.next()) else { return };
    let _ = Command::new(me).arg0(name).args(args).envs(SETTINGS).exec();
}
