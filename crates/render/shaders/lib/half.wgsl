// Texture formats of the folded field, half precision: filterable on every GPU and twice as fast
// to read as full floats. A volume uses the first channel alone, because the one-channel half
// format may not be written by a shader. Rust twin: `Precision::Half`.
alias PictureOut = texture_storage_2d_array<rgba16float, write>;
alias VolumeOut = texture_storage_3d<rgba16float, write>;
