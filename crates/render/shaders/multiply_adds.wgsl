// Peak rate of multiply-adds: nothing else is computed.
//
// One invocation an element, workgroup 64x1x1. Bindings: 0 the results, written so that no
// operation is optimized away. Eight independent chains of vec4 an invocation, ROUNDS long, hide
// the latency. Rust twin: `MultiplyAdds`, which counts the operations.

override ROUNDS: u32 = 256u;

@group(0) @binding(0) var<storage, read_write> results: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    // Values in 0..1 that differ between invocations, so that no result is known at compile time.
    let seed = f32(id.x % 1024u) / 1024.0;
    let scale = vec4f(0.5 + 0.25 * seed);
    let offset = vec4f(seed);
    var a = vec4f(seed);
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    var e = a + 4.0;
    var f = a + 5.0;
    var g = a + 6.0;
    var h = a + 7.0;
    for (var i = 0u; i < ROUNDS; i++) {
        a = fma(a, scale, offset);
        b = fma(b, scale, offset);
        c = fma(c, scale, offset);
        d = fma(d, scale, offset);
        e = fma(e, scale, offset);
        f = fma(f, scale, offset);
        g = fma(g, scale, offset);
        h = fma(h, scale, offset);
    }
    results[id.x] = a + b + c + d + e + f + g + h;
}
