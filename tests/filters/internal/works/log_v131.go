//go:build sdk131

package works

import "github.com/envoyproxy/envoy/contrib/golang/common/go/api"

func (f *filter) OnLogDownstreamStart() { Told[api.StreamFilter]("called") }

func (f *filter) OnLogDownstreamPeriodic() { Told[api.StreamFilter]("called") }

func (f *filter) OnLog() {
	Told[api.StreamFilter]("called")
	f.logged()
}
