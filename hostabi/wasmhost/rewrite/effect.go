package rewrite

// effect says by opcode, sixteen in a line, how instructions change the height of the
// operand stack: '+' one more, ',' as many as before, '-' one less, '.' two, '/' three
// less. What a call, and a block's end, do beside that is in their types.
type effect string

func (e effect) of(op byte) int {
	if int(op) >= len(e) {
		return 0
	}
	return ',' - int(e[op])
}

const (
	effects effect = "" +
		",,,,-,,,,,,,,--," + // control
		",-,,,,,,,,-..,,," + // calls, drop, select
		"+-,+-,.,,,,,,,,," + // variables, tables, loads
		",,,,,,.........+" + // stores, memory.size
		",++++,----------" + // memory.grow, constants, i32 compared
		",---------------" + // i64 and f32
		"-------,,,------" + // f64; i32 computed
		"---------,,,----" + // i64
		"-----------,,,,," + // f32
		",,-------,,,,,,," + // f64
		"-------,,,,,,,,," + // conversions
		",,,,,,,,,,,,,,,," +
		",,,,,,,,,,,,,,,," +
		"+,+" // references

	effectsMisc effect = ",,,,,,,,/,///,/-+/" // truncations, memory, tables

	effectsSIMD effect = "" +
		",,,,,,,,,,,.+--," + // loads, store, constant, shuffles, splats
		",,,,,,,-,,-,-,-," + // lanes
		"-,--------------" + // compared
		"----------------" +
		"-------------,--" + // logic
		"--.,----....,,,," + // lanes loaded and stored
		",,,,,--,,,,-----" + // i8x16
		"----,,----,-,,,," +
		",,-,,--,,,,-----" + // i16x8
		"----,-----,-----" +
		",,,,,,,,,,,----," + // i32x4
		",-,,,------,----" +
		",,,,,,,,,,,----," + // i64x2
		",-,,,-----------" +
		",,,,--------,,,," + // f32x4
		"--------" // f64x2; conversions
)
