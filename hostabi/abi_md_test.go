package hostabi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// document is ABI.md cut into its headed sections.
type document map[string][]string

func readABI(t *testing.T) document {
	t.Helper()
	b, err := os.ReadFile("ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	d, heading := document{}, ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimLeft(line, "# ")
		}
		d[heading] = append(d[heading], line)
	}
	return d
}

// rows returns the cells of the tables under heading whose header row begins
// with first, without the header.
func (d document) rows(heading, first string) (rows [][]string) {
	in := false
	for _, line := range d[heading] {
		if !strings.HasPrefix(line, "|") {
			in = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		switch {
		case cells[0] == first:
			in = true
		case in && !strings.HasPrefix(cells[0], "---"):
			rows = append(rows, cells)
		}
	}
	return rows
}

// tag is one row of a tag table: number, field, type.
type tag [3]string

// codeTags reads tags.go: message name to its tags.
func codeTags(t *testing.T) map[string][]tag {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "tags.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string][]tag{}
	for _, decl := range file.Decls {
		gen := decl.(*ast.GenDecl)
		message, _, _ := strings.Cut(strings.TrimPrefix(gen.Doc.Text(), "Tags of "), " ")
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			field, ok := strings.CutPrefix(v.Names[0].Name, "Tag"+message)
			if !ok {
				t.Errorf("%s stands under the tags of %s", v.Names[0].Name, message)
			}
			tags[message] = append(tags[message], tag{v.Values[0].(*ast.BasicLit).Value, field, strings.TrimSpace(v.Comment.Text())})
		}
	}
	return tags
}

func TestTagTablesOfABIEqualTheCode(t *testing.T) {
	d, tags := readABI(t), codeTags(t)
	for _, s := range samples {
		var written []tag
		for _, row := range d.rows(s.name, "tag") {
			written = append(written, tag(row[:3]))
		}
		if !slices.Equal(written, tags[s.name]) {
			t.Errorf("%s:\nABI.md  %v\ntags.go %v", s.name, written, tags[s.name])
		}
		delete(tags, s.name)
	}
	for name := range tags {
		t.Errorf("tags of %s, which is no message", name)
	}
}

func TestEncodedFieldsHaveTheirTagAndWidth(t *testing.T) {
	tags := codeTags(t)
	widths := map[string]int{"u8": 1, "u16": 2, "u32": 4, "u64": 8, "bool": 1, "enum 0–1": 1, "enum 0–2": 1}
	for _, s := range samples {
		full := reflect.ValueOf(s.full).Elem()
		for _, want := range tags[s.name] {
			one := s.zero()
			reflect.ValueOf(one).Elem().FieldByName(want[1]).Set(full.FieldByName(want[1]))
			number, value, _, err := Next(one.AppendTo(nil))
			if err != nil || strconv.Itoa(int(number)) != want[0] {
				t.Errorf("%s.%s: tag %d, %v, want %s", s.name, want[1], number, err, want[0])
			}
			if w, ok := widths[strings.TrimPrefix(want[2], "list of ")]; ok && len(value) != w {
				t.Errorf("%s.%s: %d bytes for %s", s.name, want[1], len(value), want[2])
			}
		}
		if full.NumField() != len(tags[s.name]) {
			t.Errorf("%s: %d fields, %d tags", s.name, full.NumField(), len(tags[s.name]))
		}
	}
}

func TestCatalogueOfABIEqualsTheCode(t *testing.T) {
	var written []Fault
	for _, row := range readABI(t).rows("7.1 Catalogue", "code") {
		status, err := strconv.Atoi(row[2])
		if err != nil {
			t.Fatal(row, err)
		}
		closeCode, _ := strconv.Atoi(row[3])
		written = append(written, Fault{FaultCode(row[0]), row[1], status, uint16(closeCode), row[4] == "yes"})
	}
	if !slices.Equal(written, Catalogue) {
		t.Errorf("ABI.md %v\ncode   %v", written, Catalogue)
	}
}

func TestSlotsAndTemplatesOfABIEqualTheCode(t *testing.T) {
	d := readABI(t)
	var slots []string
	for _, row := range d.rows("7.2 Templates", "slot") {
		slots = append(slots, row[0])
	}
	if want := append(slices.Clone(Slots), "field:/pointer"); !slices.Equal(slots, want) {
		t.Errorf("ABI.md %v, code %v", slots, want)
	}
	for _, template := range []string{ProblemTemplate, EventTemplate} {
		if !slices.Contains(d["7.3 Native envelopes"], template) {
			t.Errorf("§7.3 lacks %s", template)
		}
	}
}

func TestExportsOfABIEqualTheCode(t *testing.T) {
	var written []string
	for _, row := range readABI(t).rows("3. The module", "export") {
		written = append(written, row[0])
	}
	want := []string{ExportMemory, ExportInitialize, ExportABI, ExportBuffer}
	for h := range Hook(NumHooks) {
		want = append(want, h.Export())
	}
	if !slices.Equal(written, want) {
		t.Errorf("ABI.md %v, code %v", written, want)
	}
}
