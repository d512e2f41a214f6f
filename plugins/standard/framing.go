package main

import (
	"math"
	"strconv"
	"strings"

	"weir/hostabi"
	"weir/plugins/sdk/go"
	"weir/plugins/sdk/go/conf"
	"weir/plugins/sdk/go/semver"
)

// framing chooses how bytes are laid on the legs of a streaming exchange.
type framing struct {
	header           string // that names the client's version; lower case
	versions         semver.Range
	client, upstream string // "framed-v1", "raw" or "auto"
	maxFrameSize     uint32
	set              bool
}

func (f *framing) read(c *conf.Table, shape *sdk.Shape) {
	t := c.Table("framing")
	f.set = c.Has("framing")
	f.header = strings.ToLower(t.String("header", ""))
	client := []string{"raw", "framed-v1", "auto"}
	if f.header != "" {
		client = []string{"auto", "framed-v1", "raw"}
		shape.FramingHeaders = append(shape.FramingHeaders, f.header)
	}
	f.client = t.OneOf("client", client...)
	f.upstream = t.OneOf("upstream", "raw", "framed-v1", "auto")
	if text := t.String("range", ""); t.IsString("range") {
		var err error
		if f.versions, err = semver.ParseRange(text); err != nil {
			t.Fail("range", err.Error())
		}
	}
	if f.client == "auto" || f.upstream == "auto" {
		if f.header == "" {
			t.Fail("header", `is needed for "auto"`)
		}
		if !t.Has("range") {
			t.Fail("range", `is needed for "auto"`)
		}
	}
	size := t.Size("max_frame_size", 0)
	if size > math.MaxUint32 {
		t.Fail("max_frame_size", strconv.FormatUint(size, 10)+" bytes, at most "+strconv.FormatUint(math.MaxUint32, 10))
	}
	f.maxFrameSize = uint32(size)
	if !f.set {
		shape.Constant = append(shape.Constant, hostabi.FramingHook)
	}
}

func (f *framing) choose(in *sdk.FramingInput) (sdk.FramingOutput, sdk.Answer) {
	if !f.set || in.Transport != hostabi.HTTP {
		return sdk.FramingOutput{}, sdk.NoOpinion
	}
	auto := hostabi.Raw
	if f.capable(in.Headers) {
		auto = hostabi.FramedV1
	}
	leg := func(s string) hostabi.Framing {
		switch s {
		case "auto":
			return auto
		case "framed-v1":
			return hostabi.FramedV1
		}
		return hostabi.Raw
	}
	return sdk.FramingOutput{Client: leg(f.client), Upstream: leg(f.upstream), MaxFrameSize: f.maxFrameSize}, sdk.Always
}

// capable tells whether the version header stands there once and in range.
func (f *framing) capable(headers []hostabi.Header) bool {
	count, version := 0, ""
	for _, h := range headers {
		if h.Name == f.header {
			count++
			version = h.Value
		}
	}
	v, ok := semver.Parse(version)
	return count == 1 && ok && f.versions.Contains(v)
}
