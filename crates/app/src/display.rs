//! Whether there is a display to open a window on, and which.
//!
//! Environment variables outlive what they name: a shell in `tmux` or `ssh` keeps those of a session
//! that has ended. So the display is asked for a sign of life before anything relies on it.

use anyhow::Result;

/// What to do about a missing display.
const ADVICE: &str =
    "run it in a desktop session, or without a window (call, join and demo have --headless)";

#[cfg(not(all(unix, not(target_os = "macos"))))]
pub(crate) use elsewhere::Display;
#[cfg(all(unix, not(target_os = "macos")))]
pub(crate) use on_unix::Display;

/// Systems that have one display, and always.
#[cfg(not(all(unix, not(target_os = "macos"))))]
mod elsewhere {
    use super::Result;

    /// The display.
    #[derive(Debug)]
    pub(crate) struct Display;

    impl Display {
        /// Returns the display.
        ///
        /// # Errors
        /// Never on this system.
        #[expect(clippy::unnecessary_wraps, reason = "other systems have no display at times")]
        pub(crate) fn find() -> Result<Self> {
            Ok(Self)
        }

        /// There is nothing to select on this system.
        pub(crate) fn select(&self, _options: &mut eframe::NativeOptions) {}
    }
}

#[cfg(all(unix, not(target_os = "macos")))]
mod on_unix {
    use std::env;
    use std::ffi::{OsStr, OsString};
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::sync_channel;
    use std::thread;
    use std::time::Duration;

    use winit::platform::x11::EventLoopBuilderExtX11 as _;
    use x11rb::rust_connection::RustConnection;

    use super::{ADVICE, Result};

    /// Longest time in which a display gives a sign of life.
    const PATIENCE: Duration = Duration::from_secs(3);

    /// A display that answers. Keep it until the window is open: an X server without another client
    /// restarts when one leaves, and refuses the next one meanwhile.
    #[derive(Debug)]
    pub(crate) struct Display {
        /// None for Wayland.
        x11: Option<RustConnection>,
    }

    impl Display {
        /// Finds the display that the environment names.
        ///
        /// # Errors
        /// If it names none, or none answers.
        pub(crate) fn find() -> Result<Self> {
            Environment::of_process().find()
        }

        /// Makes the window appear on this display, whatever else the environment names.
        pub(crate) fn select(&self, options: &mut eframe::NativeOptions) {
            if self.x11.is_some() {
                options.event_loop_builder = Some(Box::new(|builder| {
                    builder.with_x11();
                }));
            }
        }
    }

    /// What the environment says about displays; an empty variable says nothing.
    #[derive(Debug, Default)]
    struct Environment {
        /// Path of the socket of a Wayland compositor.
        wayland: Option<PathBuf>,
        /// Number of an open socket of a Wayland compositor.
        wayland_socket: Option<OsString>,
        /// Name of an X server.
        x11: Option<OsString>,
    }

    impl Environment {
        fn of_process() -> Self {
            let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
            // A relative name is that of a file in the folder for such things; without it of none.
            let folder = variable("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
            Self {
                wayland: variable("WAYLAND_DISPLAY").map(|name| folder.join(name)),
                wayland_socket: variable("WAYLAND_SOCKET"),
                x11: variable("DISPLAY"),
            }
        }

        /// Finds a display that answers, preferring Wayland.
        fn find(&self) -> Result<Display> {
            if self.wayland_socket.as_deref().is_some_and(is_socket)
                || self.wayland.as_deref().is_some_and(answers_as_compositor)
            {
                return Ok(Display { x11: None });
            }
            let says_wayland = self.wayland.is_some() || self.wayland_socket.is_some();
            let Some(name) = &self.x11 else {
                anyhow::ensure!(!says_wayland, "the Wayland display does not answer: {ADVICE}");
                anyhow::bail!("there is no display to open a window on: {ADVICE}");
            };
            match connect_to_x11(name) {
                Ok(connection) => Ok(Display { x11: Some(connection) }),
                Err(why) => {
                    let name = name.display();
                    anyhow::bail!("the display {name} does not answer ({why}): {ADVICE}")
                }
            }
        }
    }

    /// Returns whether an inherited file descriptor is a socket.
    fn is_socket(number: &OsStr) -> bool {
        let target = std::fs::read_link(Path::new("/proc/self/fd").join(number));
        target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    }

    /// Returns whether a Wayland compositor answers at a socket.
    ///
    /// # Source
    /// The Wayland protocol, chapter "Wire Format": `wl_display` (object 1) is asked for its registry
    /// (request 1) as object 2, which it announces in messages of at least eight bytes.
    fn answers_as_compositor(socket: &Path) -> bool {
        let ask = || -> std::io::Result<()> {
            let mut socket = UnixStream::connect(socket)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            for word in [1_u32, 12 << 16 | 1, 2] {
                socket.write_all(&word.to_ne_bytes())?;
            }
            socket.read_exact(&mut [0; 8])
        };
        ask().is_ok()
    }

    fn connect_to_x11(name: &OsStr) -> Result<RustConnection, String> {
        let name = name.to_str().ok_or("its name is not UTF-8")?.to_owned();
        let (sender, outcome) = sync_channel(1);
        // The server may not answer, and the library does not give up.
        let connect = move || {
            let connected = RustConnection::connect(Some(&name));
            let _ = sender.send(connected.map(|(it, _)| it).map_err(|error| error.to_string()));
        };
        thread::Builder::new()
            .name("display".to_owned())
            .spawn(connect)
            .map_err(|error| error.to_string())?;
        outcome.recv_timeout(PATIENCE).unwrap_or_else(|_| Err("it is silent".to_owned()))
    }

    #[cfg(test)]
    mod tests {
        use std::os::unix::net::UnixListener;

        use super::*;

        #[test]
        fn a_display_that_does_not_answer_is_none() {
            let folder = std::env::temp_dir().join(format!("display-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            // A file, a socket that nobody listens at, and one where somebody hangs up.
            let [file, stale, mute] = ["file", "stale", "mute"].map(|name| folder.join(name));
            std::fs::write(&file, "").unwrap();
            drop(UnixListener::bind(&stale).unwrap());
            let listener = UnixListener::bind(&mute).unwrap();
            thread::spawn(move || listener.accept());
            for wayland in [folder.join("missing"), file, stale, mute] {
                let wayland = Some(wayland);
                let error = Environment { wayland, ..Environment::default() }.find().unwrap_err();
                assert!(error.to_string().contains("--headless"), "{error}");
            }
            for x11 in [":4711", "nobody.invalid:0", "x", "unix:"] {
                let x11 = Some(x11.into());
                let error = Environment { x11, ..Environment::default() }.find().unwrap_err();
                assert!(error.to_string().contains("--headless"), "{error}");
            }
            assert!(Environment::default().find().is_err());
            std::fs::remove_dir_all(folder).unwrap();
        }

        #[test]
        fn a_compositor_is_preferred_to_a_dead_x_server() {
            let path = std::env::temp_dir().join(format!("compositor-{}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap();
            let compositor = thread::spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                let mut request = [0; 12];
                client.read_exact(&mut request).unwrap();
                client.write_all(&[2, 0, 0, 0, 0, 0, 8, 0]).unwrap();
                request
            });
            let x11 = Some(":4711".into());
            let display =
                Environment { wayland: Some(path.clone()), x11, ..Environment::default() };
            assert!(display.find().unwrap().x11.is_none());
            assert_eq!(compositor.join().unwrap()[..4], 1_u32.to_ne_bytes());
            std::fs::remove_file(path).unwrap();
        }
    }
}
