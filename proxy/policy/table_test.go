package policy

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func TestTableIsAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	table, model := newTable(0), make(map[string]*entry)
	for i := range 20_000 {
		key := fmt.Sprint(random.IntN(3000))
		if i%5000 == 0 {
			key = ""
		}
		want(t, key, table.get([]byte(key)), model[key])
		e := newEntry(key, critical, int64(i))
		table, model[key] = table.put(e), e
		if i%4000 == 3999 {
			dead := func(e *entry) bool { return e.until%3 == 0 }
			table = table.rebuilt(0, func(e *entry) bool { return !dead(e) })
			for k, e := range model {
				if dead(e) {
					delete(model, k)
				}
			}
		}
		want(t, "used", table.used, len(model))
		if 2*table.used > len(table.slots) {
			t.Fatalf("%d of %d slots are used", table.used, len(table.slots))
		}
	}
	for k, e := range model {
		want(t, k, table.get([]byte(k)), e)
	}
}

func TestTableIsReadWhileItIsWritten(t *testing.T) {
	table := newTable(1000)
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for i := range 20_000 {
				key := fmt.Append(nil, i%1000)
				if e := table.get(key); e != nil && e.key != string(key) {
					t.Errorf("%s found as %s", key, e.key)
				}
			}
		})
	}
	for i := range 4000 {
		if table.put(newEntry(fmt.Sprint(i%1000), critical, 0)) != table {
			t.Fatal("grown")
		}
	}
	readers.Wait()
}
