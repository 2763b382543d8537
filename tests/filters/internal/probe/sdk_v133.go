//go:build !sdk131 && !sdk132

package probe

const sdkVersion = "1.33"
