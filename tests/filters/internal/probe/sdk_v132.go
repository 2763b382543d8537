//go:build sdk132

package probe

const sdkVersion = "1.32"
