//go:build sdk131

package probe

const sdkVersion = "1.31"
