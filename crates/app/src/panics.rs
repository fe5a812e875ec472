//! Programming errors: what the user reads, and the report that the developers need.
//!
//! A panic of any thread ends the program with exit code 101, as well as it can: a call hangs up and
//! finishes its recording first. Two kinds of panic end less: that of a contained part, such as the
//! recorder ([`contain`]), and that of a task of the network, which ends one connection.
//!
//! A report holds the version, the system, the thread, the message without what it quotes, and the
//! backtrace. It is written to the user's state folder, readable by the user alone.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;

use crate::date::date;
use crate::output;
use crate::termination;

/// Exit code of a program that a programming error ended, by the convention of Rust.
pub(crate) const EXIT_CODE: u8 = 101;

/// Most reports in the folder; the oldest make room.
const MAX_REPORTS: usize = 10;
/// Time in which a command that ends well has to end after a panic.
const TIME_TO_END: Duration = Duration::from_secs(30);

/// Names of threads that run the tasks of the network. A panic ends the task, not the thread.
const TASK_THREADS: [&str; 2] = ["feathercall-net", "feathercall-rendezvous"];

/// Whether a panic is ending the program.
static IS_FATAL: AtomicBool = AtomicBool::new(false);
/// Whether a panic that does not end the program was reported. A peer may be able to repeat it.
static IS_PART_REPORTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Handles the panics of all threads from now on.
pub(crate) fn handle() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if output::shows_library_messages() {
            default(info);
        }
        if !capture::is_contained() {
            handle_panic(info);
        }
    }));
}

/// Returns whether a panic is ending the program. The user has been told.
pub(crate) fn is_fatal() -> bool {
    IS_FATAL.load(Ordering::SeqCst)
}

/// Runs a part whose panic does not end the program.
///
/// # Errors
/// If it panics. The user has been told.
pub(crate) fn contain<T>(part: impl FnOnce() -> T) -> anyhow::Result<T> {
    let before = IS_CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(part));
    IS_CONTAINED.set(before);
    result.map_err(|payload| {
        let message = without_quotes(payload_text(&*payload));
        anyhow::anyhow!("stopped because of a programming error: {message}")
    })
}

fn handle_panic(info: &PanicHookInfo<'_>) {
    let current = thread::current();
    let name = current.name().unwrap_or("unnamed");
    let place = info
        .location()
        .map_or_else(String::new, |at| format!("{}:{}", without_build_paths(at.file()), at.line()));
    let goes_on = IS_CONTAINED.get() || TASK_THREADS.contains(&name);
    let is_reported = if goes_on { &IS_PART_REPORTED } else { &IS_FATAL };
    if is_reported.swap(true, Ordering::SeqCst) {
        return;
    }
    let report = report(name, &place, payload_text(info.payload()));
    let file = format!("{}{}", std::process::id(), if goes_on { "-part" } else { "" });
    let kept = match reports_folder().and_then(|folder| keep(&folder, &file, &report)) {
        Ok(path) => {
            format!("a report lies in {}, please send it to the developers", path.display())
        }
        Err(error) => format!("there is no report: {error:#}"),
    };
    let what = if goes_on { "A part of Feathercall" } else { "Feathercall" };
    output::note(format!("{what} stopped because of a programming error ({place}); {kept}"));
    if goes_on || name == "main" {
        // Whoever contains the panic is told, the program itself in the end.
        return;
    }
    if !termination::request_after_panic() {
        termination::exit_now(i32::from(EXIT_CODE));
    }
    let _ = thread::Builder::new().name("end".to_owned()).spawn(|| {
        thread::sleep(TIME_TO_END);
        termination::exit_now(i32::from(EXIT_CODE));
    });
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

/// Returns the text of a report.
fn report(thread: &str, place: &str, message: &str) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut report = format!(
        "feathercall {}\n{} {} {}\nthread {thread}\n{place}: {}\n\n",
        env!("CARGO_PKG_VERSION"),
        env::consts::OS,
        env::consts::ARCH,
        kernel.trim(),
        without_quotes(message),
    );
    for line in Backtrace::force_capture().to_string().lines() {
        let _ = writeln!(report, "{}", without_build_paths(line));
    }
    report
}

/// Returns `feathercall` in the user's folder for state, such as `~/.local/state`, or for data where
/// the system has none.
fn reports_folder() -> anyhow::Result<PathBuf> {
    let folders = etcetera::choose_base_strategy().context("this user has no home folder")?;
    Ok(folders.state_dir().unwrap_or_else(|| folders.data_dir()).join("feathercall"))
}

/// Writes a report to a file whose name ends in `name`, and removes the oldest beyond [`MAX_REPORTS`].
fn keep(folder: &Path, name: &str, report: &str) -> anyhow::Result<PathBuf> {
    capture::create_private_folder(folder)?;
    let mut others: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_report(path))
        .map(|path| (fs::metadata(&path).and_then(|about| about.modified()).ok(), path))
        .collect();
    others.sort();
    let n_over = (others.len() + 1).saturating_sub(MAX_REPORTS);
    for (_, path) in &others[..n_over] {
        fs::remove_file(path)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = folder.join(format!("crash-{}-{name}.txt", date(now)));
    capture::write_file(&path, report.as_bytes())?;
    Ok(path)
}

fn is_report(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b"crash-") && path.extension().is_some_and(|extension| extension == "txt")
}

/// Returns a message without what may belong to a person: what stands in quotes, and words that are a
/// path, a link or a key.
fn without_quotes(message: &str) -> String {
    let outside = message.split('"').enumerate();
    let outside: String =
        outside.map(|(idx, part)| if idx % 2 == 0 { part } else { "\"...\"" }).collect();
    let is_private = |word: &&str| word.len() > 20 || word.contains(['/', '\\', '@']);
    let words = outside.split_whitespace().map(|word| if is_private(&word) { "..." } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Replaces the folders of the machine that built the program in a text: the source
/// `/home/me/.cargo/registry/src/index.crates.io-0/winit-0.30.1/src/x.rs` becomes
/// `winit-0.30.1/src/x.rs`.
pub(crate) fn without_build_paths(text: &str) -> String {
    let mut rest = text;
    let mut cleaned = String::new();
    while let Some(found) = find_build_path(rest) {
        cleaned.push_str(&rest[..found.start]);
        rest = &rest[found.end..];
    }
    cleaned + rest
}

/// Finds the first folder of a build machine: of a registry, of a Git checkout or of the standard
/// library.
fn find_build_path(text: &str) -> Option<std::ops::Range<usize>> {
    ["/registry/src/", "\\registry\\src\\", "/git/checkouts/", "/rustc/"]
        .iter()
        .filter_map(|folder| {
            let at = text.find(folder)?;
            // The name behind it is that of the registry, or a hash.
            let behind = at + folder.len();
            let name = text[behind..].find(['/', '\\'])?;
            let starts = |c: char| c.is_whitespace() || ['(', '"', '\''].contains(&c);
            let mut before = text[..at].char_indices().rev();
            let start = before.find(|(_, c)| starts(*c)).map_or(0, |(idx, c)| idx + c.len_utf8());
            Some(start..behind + name + 1)
        })
        .min_by_key(|found| found.start)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// In a process of its own: panics on another thread as `kind` says, and ends as the program does.
    fn panic_as(kind: &str) -> ! {
        handle();
        if kind == "call" {
            termination::end_well();
        }
        let secret = "feathercall://a.example/x#secret";
        let work = move || panic!("no {:?} in /home/ada/ada.face {}", "Ada", secret);
        if kind == "part" {
            let error = contain(work).map(|(): ()| ()).unwrap_err();
            output::note(format!("went on: {error}"));
            std::process::exit(0);
        }
        let _ = thread::spawn(move || -> () { work() }).join();
        assert!(termination::is_requested() && is_fatal(), "only a call comes this far");
        std::process::exit(7);
    }

    #[test]
    fn a_panic_leaves_one_line_and_a_report_without_what_is_private() {
        if let Ok(kind) = env::var("FEATHERCALL_TEST_PANIC") {
            panic_as(&kind);
        }
        let state = env::temp_dir().join(format!("panics-{}", std::process::id()));
        for (kind, code) in [("command", 101), ("call", 7), ("part", 0)] {
            let _ = fs::remove_dir_all(&state);
            let name =
                "panics::tests::a_panic_leaves_one_line_and_a_report_without_what_is_private";
            let mut program = Command::new(env::current_exe().unwrap());
            program.args(["--exact", name, "--nocapture", "--quiet"]);
            program.env("FEATHERCALL_TEST_PANIC", kind).env("XDG_STATE_HOME", &state);
            let output = program.output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{kind}: {told}");
            assert_eq!(told.lines().count(), if kind == "part" { 2 } else { 1 }, "{told}");
            assert!(told.contains("because of a programming error (crates/app/src/"), "{told}");
            let reports: Vec<_> = fs::read_dir(state.join("feathercall")).unwrap().collect();
            let path = reports[0].as_ref().unwrap().path();
            assert!(reports.len() == 1 && told.contains(path.to_str().unwrap()), "{told}");
            let report = fs::read_to_string(&path).unwrap();
            assert!(report.contains(env!("CARGO_PKG_VERSION")), "{report}");
            assert!(report.contains("panic_as"), "a backtrace: {report}");
            for private in ["Ada", "ada", "secret", "/registry/"] {
                assert!(!report.contains(private) && !told.contains(private), "{report}");
            }
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn old_reports_make_room() {
        let folder = env::temp_dir().join(format!("reports-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for n in 0..2 * MAX_REPORTS {
            let path = keep(&folder, &n.to_string(), "a report").unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(n as u64)).unwrap();
        }
        fs::write(folder.join("notes"), "of somebody").unwrap();
        let newest = keep(&folder, "newest", "a report").unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(names.len(), MAX_REPORTS + 1, "{names:?}");
        assert!(names.contains(&newest) && names.contains(&folder.join("notes")));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_message_shows_a_path_of_the_build_machine() {
        for (text, want) in [
            (
                "os error at /root/.cargo/registry/src/index.crates.io-19/winit-0.30.13/src/a.rs:7: no",
                "os error at winit-0.30.13/src/a.rs:7: no",
            ),
            ("(/rustc/0a1b/library/core/src/b.rs:1:2)", "(library/core/src/b.rs:1:2)"),
            ("C:\\u\\.cargo\\registry\\src\\i-1\\x-1\\y.rs", "x-1\\y.rs"),
            ("/home/ada/clip.mp4: not a clip", "/home/ada/clip.mp4: not a clip"),
        ] {
            assert_eq!(without_build_paths(text), want);
        }
    }
}
