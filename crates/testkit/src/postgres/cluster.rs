//! PostgreSQL's programs, an empty cluster to begin with, and as whom they run.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::{PASSWORD, USER};

/// Who runs the server when we are root.
const SYSTEM_USERS: [&str; 2] = ["postgres", "nobody"];

/// The folder of PostgreSQL's programs: Debian keeps the server's out of `PATH`.
pub(super) fn find_programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut folders: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders
        .into_iter()
        .rev()
        .chain(in_path)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .context("PostgreSQL is not installed: apt-get install postgresql (make test does it)")
}

/// The folder of an empty cluster: made once, then copied, which is much faster.
pub(super) fn template(programs: &Path) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .context("a test lies in a target folder")?;
    let version = programs.parent().and_then(Path::file_name);
    let version = version.and_then(OsStr::to_str).unwrap_or("own");
    let user = rustix::process::getuid().as_raw();
    let place = target.join(format!("postgres-{version}-{user}"));
    if place.exists() {
        return Ok(place);
    }
    let folder = tempfile::Builder::new().prefix("tollgate-pg-").tempdir()?;
    give_away(folder.path())?;
    let data = folder.path().join("data");
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD)?;
    let output = as_other_user(&programs.join("initdb"))
        .arg("-D")
        .arg(&data)
        .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
        .args(["-U", USER, "--no-sync", "-E", "UTF8", "--locale=C"])
        .arg(format!("--pwfile={}", password.display()))
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Several tests may do this at once: the first one's stays.
    let ours = target.join(format!("postgres-{}.new", std::process::id()));
    copy(&data, &ours)?;
    if std::fs::rename(&ours, &place).is_err() {
        std::fs::remove_dir_all(&ours)?;
    }
    Ok(place)
}

pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    // Keeps owner and permissions, which PostgreSQL insists on.
    let output = Command::new("cp").arg("-a").args([from, to]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cp: {said}");
    Ok(())
}

/// Uid and gid to run as: `None` where we are not root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    SYSTEM_USERS.iter().find_map(|name| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

pub(super) fn give_away(folder: &Path) -> anyhow::Result<()> {
    if let Some((uid, gid)) = other_user() {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// A command of the server's, which ends when the thread that starts it does.
pub(super) fn as_other_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if let Some((uid, gid)) = other_user() {
        command.arg(format!("--reuid={uid}"));
        command.arg(format!("--regid={gid}"));
        command.arg("--clear-groups");
    }
    command.arg(program).current_dir("/").process_group(0);
    command
}
