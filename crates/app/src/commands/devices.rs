//! `feathercall devices`

use serde_json::json;

use crate::gpu::Gpu;

/// Prints the connected devices.
pub(super) fn run(is_json: bool) {
    let devices = capture::devices();
    let adapters = Gpu::list();
    if is_json {
        let adapters = adapters.iter().map(|info| {
            let (kind, backend) = (format!("{:?}", info.device_type), info.backend.to_str());
            json!({ "name": info.name, "type": kind, "backend": backend })
        });
        println!(
            "{}",
            json!({
                "cameras": devices.cameras,
                "microphones": devices.microphones,
                "speakers": devices.speakers,
                "graphics_adapters": adapters.collect::<Vec<_>>(),
            })
        );
        return;
    }
    print_list("cameras", &devices.cameras);
    print_list("microphones", &devices.microphones);
    print_list("speakers", &devices.speakers);
    let adapters: Vec<String> = adapters
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
