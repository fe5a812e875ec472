// The shading network: 12 inputs (the last is zero) -> 32 -> 32 -> 3. Unrolled, because indexing
// arrays in loops takes four to six times as long on software adapters.
//
// The weights are 4x4 blocks in workgroup memory, ordered by output block, then by input block: 24
// of layer 1, 64 of layer 2, 8 of layer 3 (whose fourth row is zero). Rust twins: step 3 of
// `face::FrameField::render_ray`, `gpu_layout::network_matrices`.

// Rust twin: `face::MEAN_FLOOR`; set when the pipeline is made.
override MEAN_FLOOR: f32;
const NETWORK_MATRICES: u32 = 96u;
var<workgroup> network: array<mat4x4f, NETWORK_MATRICES>;

// Returns `sigmoid(w3 · relu(w2 · relu(w1 · inputs + b1) + b2) + b3)`.
// Inputs: mean features `a`, `b`, then `c` = (alpha, direction.x, direction.y, 0).
fn shade(a: vec4f, b: vec4f, c: vec4f) -> vec3f {
    let zero = vec4f(0.0);
    let h0 = max(frame.shade_bias[0] + network[0] * a + network[1] * b + network[2] * c, zero);
    let h1 = max(frame.shade_bias[1] + network[3] * a + network[4] * b + network[5] * c, zero);
    let h2 = max(frame.shade_bias[2] + network[6] * a + network[7] * b + network[8] * c, zero);
    let h3 = max(frame.shade_bias[3] + network[9] * a + network[10] * b + network[11] * c, zero);
    let h4 = max(frame.shade_bias[4] + network[12] * a + network[13] * b + network[14] * c, zero);
    let h5 = max(frame.shade_bias[5] + network[15] * a + network[16] * b + network[17] * c, zero);
    let h6 = max(frame.shade_bias[6] + network[18] * a + network[19] * b + network[20] * c, zero);
    let h7 = max(frame.shade_bias[7] + network[21] * a + network[22] * b + network[23] * c, zero);

    let g0 = max(
        field.shade_b2[0] + network[24] * h0 + network[25] * h1 + network[26] * h2 + network[27] * h3
            + network[28] * h4 + network[29] * h5 + network[30] * h6 + network[31] * h7, zero);
    let g1 = max(
        field.shade_b2[1] + network[32] * h0 + network[33] * h1 + network[34] * h2 + network[35] * h3
            + network[36] * h4 + network[37] * h5 + network[38] * h6 + network[39] * h7, zero);
    let g2 = max(
        field.shade_b2[2] + network[40] * h0 + network[41] * h1 + network[42] * h2 + network[43] * h3
            + network[44] * h4 + network[45] * h5 + network[46] * h6 + network[47] * h7, zero);
    let g3 = max(
        field.shade_b2[3] + network[48] * h0 + network[49] * h1 + network[50] * h2 + network[51] * h3
            + network[52] * h4 + network[53] * h5 + network[54] * h6 + network[55] * h7, zero);
    let g4 = max(
        field.shade_b2[4] + network[56] * h0 + network[57] * h1 + network[58] * h2 + network[59] * h3
            + network[60] * h4 + network[61] * h5 + network[62] * h6 + network[63] * h7, zero);
    let g5 = max(
        field.shade_b2[5] + network[64] * h0 + network[65] * h1 + network[66] * h2 + network[67] * h3
            + network[68] * h4 + network[69] * h5 + network[70] * h6 + network[71] * h7, zero);
    let g6 = max(
        field.shade_b2[6] + network[72] * h0 + network[73] * h1 + network[74] * h2 + network[75] * h3
            + network[76] * h4 + network[77] * h5 + network[78] * h6 + network[79] * h7, zero);
    let g7 = max(
        field.shade_b2[7] + network[80] * h0 + network[81] * h1 + network[82] * h2 + network[83] * h3
            + network[84] * h4 + network[85] * h5 + network[86] * h6 + network[87] * h7, zero);

    let logits = field.shade_b3 + network[88] * g0 + network[89] * g1 + network[90] * g2 + network[91] * g3
        + network[92] * g4 + network[93] * g5 + network[94] * g6 + network[95] * g7;
    return vec3f(sigmoid(logits.x), sigmoid(logits.y), sigmoid(logits.z));
}
