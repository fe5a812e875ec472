//! System packages that the build needs besides Rust, and how each package manager installs them.

use std::process::{Command, Stdio};

use crate::run;

/// A package manager, its commands, and the names of the packages we need.
struct Manager {
    /// Program whose presence on the PATH selects this manager.
    program: &'static str,
    /// Command that succeeds if the package appended to it is installed.
    query: &'static [&'static str],
    /// Command that installs the packages appended to it.
    install: &'static [&'static str],
    /// Whether `install` needs root and does not ask for a password itself.
    needs_root: bool,
    packages: &'static [&'static str],
}

/// For building: a C toolchain, cmake (Opus), libclang (camera bindings) and ALSA headers (sound).
/// For running: a Vulkan loader with a software driver, the X libraries that open a window, and
/// ffmpeg, which reads the clips that our own readers do not.
const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        query: &["dpkg", "-s"],
        install: &["apt-get", "install", "-y", "--no-install-recommends"],
        needs_root: true,
        packages: &[
            "build-essential",
            "pkg-config",
            "cmake",
            "libclang-dev",
            "libasound2-dev",
            "libvulkan1",
            "mesa-vulkan-drivers",
            "libxkbcommon-x11-0",
            "libx11-xcb1",
            "libxcursor1",
            "libxi6",
            "libxrandr2",
            "ffmpeg",
        ],
    },
    Manager {
        program: "dnf",
        query: &["rpm", "-q", "--whatprovides"],
        install: &["dnf", "install", "-y"],
        needs_root: true,
        packages: &[
            "gcc-c++",
            "make",
            "pkgconf-pkg-config",
            "cmake",
            "clang-devel",
            "alsa-lib-devel",
            "vulkan-loader",
            "mesa-vulkan-drivers",
            "libxkbcommon-x11",
            "libX11-xcb",
            "libXcursor",
            "libXi",
            "libXrandr",
            "/usr/bin/ffmpeg",
        ],
    },
    Manager {
        program: "pacman",
        query: &["pacman", "-Q"],
        install: &["pacman", "-S", "--noconfirm", "--needed"],
        needs_root: true,
        packages: &[
            "gcc",
            "make",
            "pkgconf",
            "cmake",
            "clang",
            "alsa-lib",
            "vulkan-icd-loader",
            "vulkan-swrast",
            "libxkbcommon-x11",
            "libxcursor",
            "libxi",
            "libxrandr",
            "ffmpeg",
        ],
    },
    Manager {
        program: "brew",
        query: &["brew", "list", "--versions"],
        install: &["brew", "install"],
        needs_root: false,
        packages: &["cmake", "pkgconf", "llvm", "ffmpeg"],
    },
];

/// Prints which packages are missing, then installs them.
pub(crate) fn install_missing() -> Result<(), String> {
    let Some(manager) = MANAGERS.iter().find(|m| is_on_path(m.program)) else {
        if cfg!(target_os = "linux") {
            eprintln!(
                "xtask: no apt, dnf, pacman or brew here; if the build fails, install by hand: a C and C++ compiler, cmake, libclang, ALSA headers, a Vulkan loader and driver"
            );
        }
        return Ok(());
    };
    let missing: Vec<&str> =
        manager.packages.iter().copied().filter(|p| !is_installed(manager, p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut words: Vec<&str> = Vec::new();
    if manager.needs_root && !is_root() {
        words.push("sudo");
    }
    let prefix = words.len();
    words.extend(manager.install);
    words.extend(&missing);
    eprintln!("xtask: missing system packages, installing: {}", words.join(" "));
    if manager.program == "apt-get" {
        let update = [&words[..prefix], &["apt-get", "update"]].concat();
        run(Command::new(update[0]).args(&update[1..]))?;
    }
    run(Command::new(words[0]).args(&words[1..]))
        .map_err(|error| format!("{error}; install them by hand with: {}", words.join(" ")))
}

fn is_installed(manager: &Manager, package: &str) -> bool {
    let mut query = Command::new(manager.query[0]);
    query.args(&manager.query[1..]).arg(package);
    let Ok(output) = query.stderr(Stdio::null()).output() else { return false };
    // `dpkg -s` also succeeds for packages that were removed but left their settings behind.
    let is_removed = manager.program == "apt-get"
        && !String::from_utf8_lossy(&output.stdout).contains("Status: install ok installed");
    output.status.success() && !is_removed
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
