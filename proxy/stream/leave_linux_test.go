package stream

import (
	"io"
	"net"
	"testing"

	"weir/hostabi"
	"weir/proxy/http1"
	"weir/proxy/policy"
	"weir/proxy/poll"
)

// onTask is a connection that a task serves.
type onTask struct {
	net.Conn
	task *poll.Task
}

func (c *onTask) Task() *poll.Task                       { return c.task }
func (c *onTask) BindRead(*poll.Task)                    {}
func (c *onTask) OnHangup(func()) (stop func(), ok bool) { return func() {}, true }

// A flood of refusals that each left its loop had a goroutine for each of its
// connections, and all others wait for Go's scheduler.
func TestARefusalLeavesNoLoop(t *testing.T) {
	loops, err := poll.New(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer loops.Close()
	p := &Proxy{}
	srv := &http1.Server{
		Handler: func(x *http1.Exchange) {
			p.Refuse(x, (*policy.Policy)(nil).View("r"), Fault{Code: hostabi.NoRoute})
		},
		Settings: func() http1.Settings { return http1.Settings{} },
	}
	client, server := net.Pipe()
	go func() {
		_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		_, _ = io.Copy(io.Discard, client)
		_ = client.Close()
	}()
	left := 0
	loops.NewTask(func(task *poll.Task) { srv.ServeConn(&onTask{server, task}) }).Resume(func() { left++ })
	if left > 0 {
		t.Error("a refusal left its loop")
	}
}
