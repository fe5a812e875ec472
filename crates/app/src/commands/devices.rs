//! `feathercall devices`

use crate::gpu::Gpu;

/// Prints the connected devices.
pub(super) fn run() {
    let devices = capture::devices();
    print_list("cameras", &devices.cameras);
    print_list("microphones", &devices.microphones);
    print_list("speakers", &devices.speakers);
    let adapters: Vec<String> = Gpu::list()
        .iter()
        .map(|info| format!("{} ({:?}, {:?})", info.name, info.device_type, info.backend))
        .collect();
    print_list("graphics adapters", &adapters);
}

fn print_list(title: &str, names: &[String]) {
    println!("{title}:");
    if names.is_empty() {
        println!("  none");
    }
    for name in names {
        println!("  {name}");
    }
}
