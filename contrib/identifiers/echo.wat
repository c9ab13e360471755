;; An identifier for posternd: connections that begin with "echo ".
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "echo ")

  ;; Where the first bytes are to be put: behind what they are compared with.
  (func (export "alloc") (param $length i32) (result i32)
    (i32.const 16))

  ;; 0 no, 1 yes, 2 not before more bytes have come.
  (func (export "identify") (param $bytes i32) (param $length i32) (result i32)
    (local $at i32)
    (loop $next
      (if (i32.eq (local.get $at) (i32.const 5))
        (then (return (i32.const 1))))
      (if (i32.eq (local.get $at) (local.get $length))
        (then (return (i32.const 2))))
      (if (i32.ne
            (i32.load8_u (local.get $at))
            (i32.load8_u (i32.add (local.get $bytes) (local.get $at))))
        (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next))
    (unreachable)))
