package gateway

import (
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"

	"weir/proxy/config"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// When the listener is none any more the gateway ends, and with it a tunnel whose
// handshake is over in that moment.
func TestAHandshakeWhileAcceptingFails(t *testing.T) {
	// The hook below holds a loop: another has to see what becomes of the listener.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	r := prepare(t, t.TempDir(), config.Files{}, plainRoute)
	socket, err := r.g.listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	r.fails = true
	r.run()
	upgraded, goOn := make(chan struct{}), make(chan struct{})
	r.logs.on("upgraded", func() {
		close(upgraded)
		<-goOn
	})
	c := r.ws("/ws")
	func() {
		defer close(goOn)
		<-upgraded
		if err := unix.Shutdown(int(socket.Fd()), unix.SHUT_RDWR); err != nil {
			t.Fatal(err)
		}
		until(t, "the gateway ends", r.g.isDraining)
	}()
	_, _, err = c.Read(t.Context())
	if closed, ok := errors.AsType[websocket.CloseError](err); !ok || closed.Code != 1012 || !strings.Contains(closed.Reason, "retry_after_ms=") {
		t.Errorf("the tunnel ended with %v", err)
	}
}
