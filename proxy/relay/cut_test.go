package relay

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"weir/hostabi"
	"weir/proxy/wsframe"
)

// A tunnel that ends inside a large message can tell the receiver nothing, but what was
// whole before it arrives, though the kernel could not send it yet.
func TestWhatCameBeforeACutMessageArrives(t *testing.T) {
	whole := bytes.Repeat(wsframe.AppendFrame(nil, wsframe.Text, nil, []byte(strings.Repeat("x", 1000))), 300)
	begun := wsframe.AppendFrame(nil, wsframe.Binary, nil, make([]byte, 2*large))[:large]
	for name, end := range map[string]func(u, c io.Writer, closeWrite func() error) error{
		"the upstream vanishes": func(_, _ io.Writer, closeWrite func() error) error { return closeWrite() },
		"the client breaks RFC 6455": func(_, c io.Writer, _ func() error) error {
			_, err := c.Write(wsframe.AppendFrame(nil, wsframe.Text, nil, []byte("not masked")))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			tun, c, u, ended := realTunnel(t, realSettings(t))
			if err := c.SetReadBuffer(16 << 10); err != nil {
				t.Fatal(err)
			}
			if _, err := u.Write(bytes.Join([][]byte{whole, begun}, nil)); err != nil {
				t.Fatal(err)
			}
			for int(tun.pumps[hostabi.ToClient].bytes.n.Load()) < len(whole)+len(begun) {
				runtime.Gosched()
			}
			if err := end(u, c, u.CloseWrite); err != nil {
				t.Fatal(err)
			}
			<-tun.done
			for over := false; !over; runtime.Gosched() {
				to := &tun.legs[hostabi.ToUpstream].sink
				to.mu.Lock()
				over = to.over
				to.mu.Unlock()
			}
			if err := c.SetReadBuffer(1 << 20); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if !bytes.Equal(got, append(bytes.Clone(whole), begun...)) || err != nil {
				t.Errorf("%d bytes, %v; %d of whole messages and %d of the one that was cut were sent", len(got), err, len(whole), len(begun))
			}
			_ = u.Close()
			<-ended
		})
	}
}
