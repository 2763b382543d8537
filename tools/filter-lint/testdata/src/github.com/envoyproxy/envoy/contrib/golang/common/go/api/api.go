// Package api has what the analyzers look at, named as in the SDK.
package api

type HeaderMap interface {
	GetRaw(name string) string
	Get(name string) (string, bool)
	Set(name, value string)
}

type RequestHeaderMap interface {
	HeaderMap
	Path() string
}

type BufferInstance interface {
	Bytes() []byte
	Set([]byte) error
}

type StatusType int

type FilterProcessCallbacks interface {
	Continue(StatusType)
	RecoverPanic()
}

type DecoderFilterCallbacks interface {
	FilterProcessCallbacks
}

type FilterCallbackHandler interface {
	Log(level int, text string)
	GetProperty(key string) (string, error)
	DecoderFilterCallbacks() DecoderFilterCallbacks
}

type CounterMetric interface {
	Increment(int64)
}

func LogInfo(text string) {}
